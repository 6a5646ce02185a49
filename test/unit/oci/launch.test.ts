import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig } from '../../../src/oci/config.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';
import { dockerSeccomp } from '../../../src/oci/docker-profile.ts';
import { dockerCapabilities, launchSpec } from '../../../src/oci/launch.ts';
import { parseCpus, parseMemory, parsePids } from '../../../src/oci/limits.ts';
import { invalid } from './support.ts';

const launch = (options: Partial<Parameters<typeof launchSpec>[0]> = {}) =>
  launchSpec({ id: 'calm-otter', args: ['sh'], machine: 'x86_64', ...options });

describe('the configuration of launch', () => {
  it('is a good one', () => {
    const spec = launch({ terminal: true, memory: 2 ** 26, cpus: 1.5, pids: 100, user: { uid: 7, gid: 7 } });
    assert.deepEqual(checkConfig(spec), { config: spec, warnings: [] });
  });

  it('has namespaces of its own, the id as host name, and no way to more privileges', () => {
    const { hostname, linux, process } = launch();
    assert.equal(hostname, 'calm-otter');
    assert.deepEqual(
      linux?.namespaces,
      ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })),
    );
    assert.equal(process.noNewPrivileges, true);
    assert.equal(process.capabilities?.bounding?.length, 14);
    assert.deepEqual(process.capabilities?.effective, process.capabilities?.bounding);
  });

  it('gives a user who is not root no capabilities to begin with', () => {
    assert.deepEqual(Object.keys(launch({ user: { uid: 1, gid: 1 } }).process.capabilities ?? {}), [
      'bounding',
    ]);
  });

  it('turns numbers into limits', () => {
    const { memory, cpu, pids } = launch({ memory: 2 ** 26, cpus: 1.5, pids: 100 }).linux?.resources ?? {};
    assert.deepEqual(
      { memory, cpu, pids },
      { memory: { limit: 2 ** 26 }, cpu: { quota: 150_000, period: 100_000 }, pids: { limit: 100 } },
    );
    assert.deepEqual(launch().linux?.resources, { devices: [{ allow: false, access: 'rwm' }] });
  });

  it('lets later variables win, and has TERM only with a terminal', () => {
    const { env } = launch({ env: ['A=1', 'PATH=/bin', 'A=2'] }).process;
    assert.deepEqual(env, ['PATH=/bin', 'HOSTNAME=calm-otter', 'A=2']);
    assert.ok(launch({ terminal: true }).process.env?.includes('TERM=xterm'));
  });

  it('cuts a long id to a host name', () => {
    assert.equal(launch({ id: 'x'.repeat(200) }).hostname?.length, 63);
  });
});

describe("docker's profile", () => {
  const allows = (capabilities: string[], machine: 'x86_64' | 'aarch64', name: string) =>
    dockerSeccomp(capabilities, machine).syscalls?.some(
      (rule) => rule.names.includes(name) && rule.action === 'SCMP_ACT_ALLOW',
    );

  it('has the architectures of the machine', () => {
    assert.deepEqual(dockerSeccomp([], 'x86_64').architectures, [
      'SCMP_ARCH_X86_64',
      'SCMP_ARCH_X86',
      'SCMP_ARCH_X32',
    ]);
    assert.deepEqual(dockerSeccomp([], 'aarch64').architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
  });

  it('opens calls by capability and machine, and leaves no conditions', () => {
    assert.equal(allows([], 'x86_64', 'mount'), false);
    assert.equal(allows(['CAP_SYS_ADMIN'], 'x86_64', 'mount'), true);
    assert.equal(allows([], 'x86_64', 'arch_prctl'), true);
    assert.equal(allows([], 'aarch64', 'arch_prctl'), false);
    assert.equal(allows([], 'aarch64', 'sync_file_range2'), true);
    assert.ok(
      dockerSeccomp(dockerCapabilities, 'x86_64').syscalls?.every(
        (rule) => !('includes' in rule) && !('excludes' in rule),
      ),
    );
  });

  it('answers ENOSYS to clone3 unless the container may make namespaces', () => {
    const clone3 = (capabilities: string[]) =>
      dockerSeccomp(capabilities, 'x86_64').syscalls?.find((rule) => rule.names.includes('clone3'));
    assert.deepEqual(clone3([]), { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 });
    assert.equal(clone3(['CAP_SYS_ADMIN'])?.action, 'SCMP_ACT_ALLOW');
  });
});

describe('what spec writes', () => {
  it('is a good configuration, a new one each time', () => {
    const rootless = { uid: 1000, gid: 1000 };
    for (const options of [{}, { cgroupVersion: 2 }, { rootless }] as const) {
      assert.deepEqual(checkConfig(defaultSpec(options)), { config: defaultSpec(options), warnings: [] });
    }
    assert.notEqual(defaultSpec().mounts?.[0], defaultSpec().mounts?.[0]);
  });
});

describe('limits on the command line', () => {
  const good: [(text: string) => unknown, text: string, value: unknown][] = [
    [parseMemory, '64m', 2 ** 26],
    [parseMemory, '1.5G', 1.5 * 2 ** 30],
    [parseMemory, '64MiB', 2 ** 26],
    [parseMemory, '67108864', 2 ** 26],
    [parseCpus, '1.5', 1.5],
    [parseCpus, '.5', 0.5],
    [parseCpus, '2', 2],
    [parsePids, '100', 100],
  ];
  for (const [parse, text, value] of good)
    it(`${parse.name} ${text}`, () => assert.deepEqual(parse(text), value));

  const bad: [(text: string) => unknown, text: string, message: string][] = [
    [parseMemory, '64q', '--memory: expected a size such as 64m or 1.5g, found "64q"'],
    [parseMemory, '', '--memory: expected a size such as 64m or 1.5g, found ""'],
    [parseMemory, '9e9', '--memory: expected a size such as 64m or 1.5g, found "9e9"'],
    [parseMemory, '1m', '--memory: expected at least 6m, found "1m"'],
    [parseCpus, '0', '--cpus: expected a number of processors such as 1.5, at least 0.01, found "0"'],
    [parseCpus, '-1', '--cpus: expected a number of processors such as 1.5, at least 0.01, found "-1"'],
    [parsePids, '0', '--pids: expected a number of processes from 1 to 4194304, found "0"'],
    [parsePids, 'many', '--pids: expected a number of processes from 1 to 4194304, found "many"'],
  ];
  for (const [parse, text, message] of bad) {
    it(`${parse.name} ${JSON.stringify(text)}`, () => {
      const error = invalid(() => parse(text));
      assert.equal(error.message, message);
      assert.equal(error.details.path, message.slice(0, message.indexOf(':')));
    });
  }
});
