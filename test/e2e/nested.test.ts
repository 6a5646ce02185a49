/** Wherry inside a privileged container: overlay root, no CAP_SYS_RESOURCE, cgroups that may be written to or not. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { uniqueId, wherryBinary } from '../support/paths.ts';
import { type RunResult, run } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

describe('nested', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry[Symbol.asyncDispose]());

  /** Output of `script` as root of a container that has all capabilities but one and no filter, over a view of the host. */
  async function inside(script: string, cgroups: 'ro' | 'rw'): Promise<RunResult> {
    const id = uniqueId('outer');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/bash', '-c', script], (config) => {
      const all = capabilities.map((name) => `CAP_${name}`);
      config.process['capabilities'] = { bounding: all, effective: all, permitted: all };
      config.process['noNewPrivileges'] = false;
      config.process.env = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'];
      config.root = { path: 'merged', readonly: false };
      config.linux['cgroupsPath'] = `/${id}`;
      for (const field of ['maskedPaths', 'readonlyPaths', 'seccomp']) delete config.linux[field];
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'cgroup');
      config.linux.resources = { devices: [{ allow: true, access: 'rwm' }] };
      config.mounts = config.mounts.filter(({ destination }) => destination !== '/sys/fs/cgroup');
      for (const mount of config.mounts)
        if (mount.destination === '/sys') mount.options = ['nosuid', 'noexec', 'nodev'];
      config.mounts.push(
        {
          destination: '/sys/fs/cgroup',
          type: 'cgroup',
          source: 'cgroup',
          options: ['nosuid', 'noexec', 'nodev', cgroups],
        },
        { destination: '/run', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/tmp', type: 'bind', source: '/tmp', options: ['rbind'] },
      );
    });
    for (const name of ['merged', 'layers']) mkdirSync(join(bundle, name));
    // In a mount namespace of its own, so that nothing of it can be left.
    const mounts = [
      `mount -t tmpfs layers ${bundle}/layers`,
      `mkdir ${bundle}/layers/upper ${bundle}/layers/work`,
      `mount -t overlay o -olowerdir=/,upperdir=${bundle}/layers/upper,workdir=${bundle}/layers/work ${bundle}/merged`,
      `exec ${wherryBinary} run -b ${bundle} ${id}`,
    ];
    return run('unshare', ['-m', 'bash', '-c', mounts.join(' && ')], { env: wherry.env, timeout: 120_000 });
  }

  const script = (inner: string, after = ''): string =>
    [
      'export WHERRY_RUN_DIR=/run/nested',
      'mkdir -m 700 /run/nested',
      `${wherryBinary} run -b ${inner} inner 2>&1; echo run $?`,
      `${wherryBinary} launch -- echo launched 2>&1; echo launch $?`,
      `${wherryBinary} daemon stop --force > /dev/null 2>&1`,
      after,
    ].join('\n');

  test('run and launch work', async () => {
    const inner = await makeBundle(wherry.folder, uniqueId('inner'), ['/bin/echo', 'ran']);
    const { code, stdout, stderr } = await inside(
      script(inner, 'grep CapBnd /proc/self/status; stat -f -c %T /'),
      'rw',
    );
    assert.equal(code, 0, stderr);
    const [ran, run, launched, launch, bounding, root] = stdout.split('\n');
    assert.deepEqual([ran, run, launched, launch], ['ran', 'run 0', 'launched', 'launch 0'], stdout + stderr);
    const sysResource = 1n << 24n;
    assert.equal(BigInt(`0x${bounding?.split('\t')[1] ?? '0'}`) & sysResource, 0n);
    assert.match(root ?? '', /overlay/);
  });

  test('where no cgroup can be made, they say why', async () => {
    const inner = await makeBundle(wherry.folder, uniqueId('inner'), ['/bin/echo', 'ran']);
    const { stdout } = await inside(script(inner), 'ro');
    assert.match(stdout, /make the cgroup \/sys\/fs\/cgroup\/.*: read-only file system.*\nrun 1\n/);
    assert.match(stdout, /make the cgroup \/sys\/fs\/cgroup\/.*: read-only file system.*\nlaunch 125\n/);
  });
});

const capabilities = [
  ...[
    'CHOWN',
    'DAC_OVERRIDE',
    'DAC_READ_SEARCH',
    'FOWNER',
    'FSETID',
    'KILL',
    'SETGID',
    'SETUID',
    'SETPCAP',
    'SETFCAP',
  ],
  ...[
    'NET_BIND_SERVICE',
    'NET_ADMIN',
    'NET_RAW',
    'IPC_LOCK',
    'IPC_OWNER',
    'SYS_CHROOT',
    'SYS_PTRACE',
    'SYS_ADMIN',
  ],
  ...['SYS_NICE', 'MKNOD', 'LEASE', 'AUDIT_WRITE'],
];
