import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig, parseConfig } from '../../../src/oci/config.ts';
import { configWith, invalid, type Loose } from './support.ts';

const NAMESPACES = 'one of pid, network, mount, ipc, uts, user, cgroup, time';
const without = (type: string) => (config: Loose) => {
  config.linux.namespaces = config.linux.namespaces.filter((entry: Loose) => entry.type !== type);
};

/** What is changed in a good configuration, and the whole text of the error after `config.json: `. */
const cases: [name: string, edit: (config: Loose) => void, message: string][] = [
  [
    'no version',
    (c) => delete c.ociVersion,
    'ociVersion: expected a version 1.x.y of the runtime specification, found nothing',
  ],
  [
    'another major version',
    (c) => (c.ociVersion = '2.0.0'),
    'ociVersion: expected a version 1.x.y of the runtime specification, found "2.0.0"',
  ],
  ['no root', (c) => delete c.root, 'root: expected an object, found nothing'],
  ['an empty root', (c) => (c.root.path = ''), 'root.path: expected a path, found ""'],
  ['no process', (c) => delete c.process, 'process: expected an object, found nothing'],
  [
    'no args',
    (c) => delete c.process.args,
    'process.args: expected a list of at least one string, found nothing',
  ],
  [
    'empty args',
    (c) => (c.process.args = []),
    'process.args: expected a list of at least one string, found an empty list',
  ],
  [
    'an empty program',
    (c) => (c.process.args = ['']),
    'process.args[0]: expected the name of a program, found ""',
  ],
  [
    'a NUL in args',
    (c) => (c.process.args = ['sh', 'a\0b']),
    'process.args[1]: expected a string without NUL bytes, found "a\\u0000b"',
  ],
  [
    'a number as argument',
    (c) => (c.process.args = ['sleep', 5]),
    'process.args[1]: expected a string without NUL bytes, found 5',
  ],
  ['a relative cwd', (c) => (c.process.cwd = 'tmp'), 'process.cwd: expected an absolute path, found "tmp"'],
  [
    'a variable without =',
    (c) => (c.process.env = ['PATH']),
    'process.env[0]: expected a variable such as NAME=value, found "PATH"',
  ],
  [
    'a variable without name',
    (c) => (c.process.env = ['=x']),
    'process.env[0]: expected a variable such as NAME=value, found "=x"',
  ],
  [
    'a negative uid',
    (c) => (c.process.user.uid = -1),
    'process.user.uid: expected an integer from 0 to 4294967294, found -1',
  ],
  [
    'a gid too large',
    (c) => (c.process.user.gid = 2 ** 32 - 1),
    'process.user.gid: expected an integer from 0 to 4294967294, found 4294967295',
  ],
  [
    'a fractional gid',
    (c) => (c.process.user.additionalGids = [1, 1.5]),
    'process.user.additionalGids[1]: expected an integer from 0 to 4294967294, found 1.5',
  ],
  [
    'a wide umask',
    (c) => (c.process.user.umask = 0o1000),
    'process.user.umask: expected an integer from 0 to 511, found 512',
  ],
  [
    'a capability without CAP_',
    (c) => (c.process.capabilities.bounding = ['NET_RAW']),
    'process.capabilities.bounding[0]: expected a capability such as CAP_CHOWN, found "NET_RAW"',
  ],
  [
    'an effective capability that is not permitted',
    (c) => (c.process.capabilities.effective = ['CAP_KILL', 'CAP_SYSLOG']),
    'process.capabilities.effective[1]: expected a capability that permitted has too, found "CAP_SYSLOG"',
  ],
  [
    'an unknown limit',
    (c) => (c.process.rlimits[0].type = 'RLIMIT_FILES'),
    'process.rlimits[0].type: expected a resource limit such as RLIMIT_NOFILE, found "RLIMIT_FILES"',
  ],
  [
    'a limit twice',
    (c) => c.process.rlimits.push(c.process.rlimits[0]),
    'process.rlimits[1].type: expected each type once (the first is process.rlimits[0].type), found "RLIMIT_NOFILE"',
  ],
  [
    'soft above hard',
    (c) => (c.process.rlimits[0].soft = 2048),
    'process.rlimits[0].soft: expected at most the hard limit, 1024, found 2048',
  ],
  [
    'a limit without hard',
    (c) => delete c.process.rlimits[0].hard,
    'process.rlimits[0].hard: expected an integer from 0 to 18446744073709551615, found nothing',
  ],
  [
    'oomScoreAdj out of range',
    (c) => (c.process.oomScoreAdj = 1001),
    'process.oomScoreAdj: expected an integer from -1000 to 1000, found 1001',
  ],
  [
    'terminal as text',
    (c) => (c.process.terminal = 'yes'),
    'process.terminal: expected true or false, found "yes"',
  ],
  [
    'hostname without uts',
    (c) => without('uts')(c),
    'hostname: expected nothing without a uts namespace in linux.namespaces, found "wherry"',
  ],
  [
    'a hostname of 65 bytes',
    (c) => (c.hostname = 'x'.repeat(65)),
    `hostname: expected at most 64 bytes, found "${'x'.repeat(60)}"…`,
  ],
  [
    'a mount without destination',
    (c) => delete c.mounts[1].destination,
    'mounts[1].destination: expected a path, found nothing',
  ],
  ['a mount that is no object', (c) => (c.mounts[1] = 'proc'), 'mounts[1]: expected an object, found "proc"'],
  [
    'a mount without type',
    (c) => delete c.mounts[2].type,
    'mounts[2].type: expected the type of a filesystem, or the option bind or rbind, found nothing',
  ],
  [
    'a bind without source',
    (c) => (c.mounts[2] = { destination: '/x', options: ['rbind'] }),
    'mounts[2].source: expected the path that is bound, found nothing',
  ],
  [
    'an unknown namespace',
    (c) => (c.linux.namespaces[3].type = 'net'),
    `linux.namespaces[3].type: expected ${NAMESPACES}, found "net"`,
  ],
  [
    'a namespace twice',
    (c) => c.linux.namespaces.push({ type: 'pid', path: '/proc/1/ns/pid' }),
    'linux.namespaces[5].type: expected each type once (the first is linux.namespaces[0].type), found "pid"',
  ],
  [
    'a relative namespace path',
    (c) => (c.linux.namespaces[0].path = 'ns/pid'),
    'linux.namespaces[0].path: expected an absolute path, found "ns/pid"',
  ],
  [
    'a relative masked path',
    (c) => (c.linux.maskedPaths = ['proc/kcore']),
    'linux.maskedPaths[0]: expected an absolute path, found "proc/kcore"',
  ],
  [
    'a device without numbers',
    (c) => (c.linux.devices = [{ type: 'c', path: '/dev/x', major: 1 }]),
    'linux.devices[0].minor: expected a device number, found nothing',
  ],
  [
    'an unknown device type',
    (c) => (c.linux.devices = [{ type: 'x', path: '/dev/x' }]),
    'linux.devices[0].type: expected one of c, b, u, p, found "x"',
  ],
  [
    'a device rule without allow',
    (c) => (c.linux.resources.devices = [{ access: 'r' }]),
    'linux.resources.devices[0].allow: expected true or false, found nothing',
  ],
  [
    'a device rule with another access',
    (c) => (c.linux.resources.devices[0].access = 'rx'),
    'linux.resources.devices[0].access: expected a combination of r, w and m, found "rx"',
  ],
  [
    'swap below memory',
    (c) => (c.linux.resources.memory = { limit: 2000, swap: 1000 }),
    'linux.resources.memory.swap: expected memory and swap together, at least memory.limit (2000), found 1000',
  ],
  [
    'swappiness above 100',
    (c) => (c.linux.resources.memory = { swappiness: 101 }),
    'linux.resources.memory.swappiness: expected an integer from 0 to 100, found 101',
  ],
  [
    'a quota the kernel refuses',
    (c) => (c.linux.resources.cpu = { quota: 999 }),
    'linux.resources.cpu.quota: expected at least 1000 µs, or -1 for no limit, found 999',
  ],
  [
    'a list of CPUs in words',
    (c) => (c.linux.resources.cpu = { cpus: 'all' }),
    'linux.resources.cpu.cpus: expected a list such as 0-3,7, found "all"',
  ],
  [
    'a memory limit as text',
    (c) => (c.linux.resources.memory = { limit: '64m' }),
    'linux.resources.memory.limit: expected an integer of 64 bits, found "64m"',
  ],
  [
    '.. in the path of the cgroup',
    (c) => (c.linux.cgroupsPath = '/a/../b'),
    'linux.cgroupsPath: expected a path without .., found "/a/../b"',
  ],
  [
    'a sysctl of the host',
    (c) => (c.linux.sysctl = { 'vm.swappiness': '1' }),
    'linux.sysctl["vm.swappiness"]: expected a parameter of a namespace (fs.mqueue, kernel.msg, sem, shm, net, user), found "1"',
  ],
  [
    'a sysctl with slashes',
    (c) => (c.linux.sysctl = { 'kernel/panic': '1' }),
    'linux.sysctl["kernel/panic"]: expected a parameter of a namespace (fs.mqueue, kernel.msg, sem, shm, net, user), found "1"',
  ],
  [
    'a sysctl that climbs',
    (c) => (c.linux.sysctl = { 'net/../kernel/panic': '1' }),
    'linux.sysctl["net/../kernel/panic"]: expected the name of a kernel parameter, found "net/../kernel/panic"',
  ],
  [
    'a network sysctl on the host',
    (c) => {
      without('network')(c);
      c.linux.sysctl = { 'net.core.somaxconn': '1' };
    },
    'linux.sysctl["net.core.somaxconn"]: expected nothing without a network namespace in linux.namespaces, found "1"',
  ],
  [
    'mappings without user namespace',
    (c) => (c.linux.uidMappings = [{ containerID: 0, hostID: 0, size: 1 }]),
    'linux.uidMappings: expected nothing without a user namespace in linux.namespaces, found a list',
  ],
  [
    'a rule without names',
    (c) =>
      (c.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: [], action: 'SCMP_ACT_KILL' }],
      }),
    'linux.seccomp.syscalls[0].names: expected a list of at least one system call, found an empty list',
  ],
  [
    'an errno with another action',
    (c) => (c.linux.seccomp = { defaultAction: 'SCMP_ACT_ALLOW', defaultErrnoRet: 1 }),
    'linux.seccomp.defaultErrnoRet: expected no errno with SCMP_ACT_ALLOW, found 1',
  ],
  [
    'an unknown operator',
    (c) =>
      (c.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['read'], action: 'SCMP_ACT_KILL', args: [{ index: 0, value: 1, op: '==' }] }],
      }),
    'linux.seccomp.syscalls[0].args[0].op: expected one of SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ, found "=="',
  ],
  [
    'a clock that cannot be shifted',
    (c) => (c.linux.timeOffsets = { realtime: {} }),
    'linux.timeOffsets: expected an object of clock offsets (monotonic, boottime), found "realtime"',
  ],
  [
    'a hook that is not absolute',
    (c) => (c.hooks = { poststop: [{ path: 'x' }] }),
    'hooks.poststop[0].path: expected an absolute path, found "x"',
  ],
];

describe('a bad configuration', () => {
  for (const [name, edit, message] of cases) {
    it(name, () => {
      const error = invalid(() => checkConfig(configWith(edit)));
      assert.equal(error.message, `config.json: ${message}`);
      assert.equal(error.details.path, message.slice(0, message.indexOf(': ')));
    });
  }

  it('lists every problem at once, the first one as its place', () => {
    const config = configWith((c) => {
      c.process.cwd = 'tmp';
      delete c.root.path;
      c.linux.namespaces[0].type = 'x';
    });
    const error = invalid(() => checkConfig(config, '/b/config.json'));
    assert.equal(
      error.message,
      `/b/config.json: root.path: expected a path, found nothing; process.cwd: expected an absolute path, found "tmp"; linux.namespaces[0].type: expected ${NAMESPACES}, found "x"`,
    );
    assert.equal(error.details.path, 'root.path');
  });

  it('with very many problems counts the rest', () => {
    const error = invalid(() => checkConfig(configWith((c) => (c.mounts = Array(120).fill(7)))));
    assert.match(error.message, /; and 20 more$/);
  });

  it('of another kind altogether says so', () => {
    assert.equal(invalid(() => parseConfig('[1]')).message, 'config.json: expected an object, found a list');
    assert.equal(invalid(() => parseConfig('null')).message, 'config.json: expected an object, found null');
  });

  it('too large is refused before it is read', () => {
    assert.match(invalid(() => parseConfig(new Uint8Array(17 * 2 ** 20))).message, /at most 16777216 bytes/);
  });
});
