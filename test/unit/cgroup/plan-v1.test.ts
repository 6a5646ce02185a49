import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeCgroups } from '../../../src/cgroup/hierarchy.ts';
import { type CgroupRequest, planCgroup } from '../../../src/cgroup/plan.ts';
import { WherryError } from '../../../src/errors.ts';
import { hybridHost, probeOf } from './hosts.ts';

const ROOT = '/sys/fs/cgroup';
const cpusetRoot = { [`${ROOT}/cpuset/cpuset.cpus`]: '0-3', [`${ROOT}/cpuset/cpuset.mems`]: '0' };

function plan(request: Partial<CgroupRequest>, probe = probeOf(cpusetRoot)) {
  return planCgroup(hybridHost, { cgroupsPath: '/pod/c1', id: 'c1', ...request }, probe);
}

/** Without the cpuset and device writes that every container has. */
function limits(resources: CgroupRequest['resources'], probe = probeOf(cpusetRoot)) {
  return plan({ resources }, probe)
    .writes.filter(({ file, field }) => !file.includes('/devices.') && field !== 'linux.cgroupsPath')
    .map(({ file, value }) => `${file.replace(`${ROOT}/`, '').replace('/pod/c1', '')}=${value}`);
}

test('one folder in every hierarchy, co-mounted controllers in one, the unified one last', () => {
  const { paths, create, procs, remove, cloneInto, relative } = plan({
    cgroupsPath: '/c1',
  });
  const folders = ['cpu,cpuacct', 'cpuset', 'memory', 'devices', 'pids', 'systemd', 'unified'].map(
    (name) => `${ROOT}/${name}/c1`,
  );
  assert.deepEqual(create, folders);
  assert.deepEqual(remove, folders);
  assert.equal(paths['cpu'], paths['cpuacct']);
  assert.equal(paths['name=systemd'], `${ROOT}/systemd/c1`);
  assert.equal(relative['memory'], '/c1');
  assert.equal(cloneInto, `${ROOT}/unified/c1`);
  assert.deepEqual(procs, [
    ...folders.slice(0, -1).map((folder) => `${folder}/tasks`),
    `${ROOT}/unified/c1/cgroup.procs`,
  ]);
});

test('missing parents are made first, existing ones not at all', () => {
  const probe = probeOf(cpusetRoot, [`${ROOT}/memory/pod`]);
  const { create } = plan({ cgroupsPath: '/pod/inner/c1' }, probe);
  assert.deepEqual(
    create.filter((path) => path.startsWith(`${ROOT}/memory`)),
    [`${ROOT}/memory/pod/inner`, `${ROOT}/memory/pod/inner/c1`],
  );
  assert.deepEqual(
    create.filter((path) => path.startsWith(`${ROOT}/pids`)),
    [`${ROOT}/pids/pod`, `${ROOT}/pids/pod/inner`, `${ROOT}/pids/pod/inner/c1`],
  );
});

test('a path is absolute, below the own cgroup, or below the default parent', () => {
  assert.equal(plan({ cgroupsPath: '' }).paths['memory'], `${ROOT}/memory/wherry/c1`);
  assert.equal(plan({ cgroupsPath: '', defaultParent: '/other' }).paths['memory'], `${ROOT}/memory/other/c1`);
  assert.equal(
    plan({ cgroupsPath: 'a//./b/' }).paths['cpu'],
    `${ROOT}/cpu,cpuacct/system.slice/wherry.service/a/b`,
  );
  assert.equal(plan({ cgroupsPath: 'a', own: { pids: '/caller' } }).paths['pids'], `${ROOT}/pids/caller/a`);
  assert.equal(plan({ cgroupsPath: '/with:colon' }).paths['pids'], `${ROOT}/pids/with:colon`);
});

for (const [cgroupsPath, kind] of [
  ['/a/../b', 'invalid-argument'],
  ['../b', 'invalid-argument'],
  ['/', 'invalid-argument'],
  ['/a\nb', 'invalid-argument'],
] as const) {
  test(`cgroupsPath ${JSON.stringify(cgroupsPath)} is ${kind}`, () => {
    assert.throws(
      () => plan({ cgroupsPath }),
      (error) =>
        error instanceof WherryError && error.kind === kind && error.details.path === 'linux.cgroupsPath',
    );
  });
}

test('an id that climbs out of the default parent is refused', () => {
  assert.throws(() => plan({ cgroupsPath: '', id: '..' }), { kind: 'invalid-argument' });
});

test('cpus and mems are copied down to every new folder, parents first', () => {
  const { writes } = plan({ resources: { cpu: { cpus: '1' } } });
  const cpuset = writes
    .filter(({ file }) => file.includes('cpuset'))
    .map(({ file, value }) => `${file}=${value}`);
  assert.deepEqual(cpuset, [
    `${ROOT}/cpuset/pod/cpuset.cpus=0-3`,
    `${ROOT}/cpuset/pod/c1/cpuset.cpus=0-3`,
    `${ROOT}/cpuset/pod/cpuset.mems=0`,
    `${ROOT}/cpuset/pod/c1/cpuset.mems=0`,
    `${ROOT}/cpuset/pod/c1/cpuset.cpus=1`,
  ]);
});

test('a parent that was left without cpus gets them, one that has some keeps them', () => {
  const cpuset = (files: Record<string, string>) =>
    plan({}, probeOf({ ...cpusetRoot, ...files }))
      .writes.filter(({ file }) => file.includes('cpuset'))
      .map(({ file, value }) => `${file.replace(`${ROOT}/cpuset/`, '')}=${value}`);
  const parent = `${ROOT}/cpuset/pod/cpuset`;
  assert.deepEqual(cpuset({ [`${parent}.cpus`]: '', [`${parent}.mems`]: '0' }), [
    'pod/cpuset.cpus=0-3',
    'pod/c1/cpuset.cpus=0-3',
    'pod/c1/cpuset.mems=0',
  ]);
  assert.deepEqual(cpuset({ [`${parent}.cpus`]: '2', [`${parent}.mems`]: '0' }), [
    'pod/c1/cpuset.cpus=2',
    'pod/c1/cpuset.mems=0',
  ]);
});

test('limits in the order that the kernel needs', () => {
  assert.deepEqual(
    limits({
      memory: { limit: 64, swap: 128, reservation: 32, swappiness: 0, disableOOMKiller: true, kernelTCP: 16 },
      cpu: { shares: 512, quota: 5000, period: 50_000, burst: 100 },
      pids: { limit: 20 },
    }),
    [
      'memory/memory.limit_in_bytes=64',
      'memory/memory.memsw.limit_in_bytes=128',
      'memory/memory.soft_limit_in_bytes=32',
      'memory/memory.kmem.tcp.limit_in_bytes=16',
      'memory/memory.swappiness=0',
      'memory/memory.oom_control=1',
      'cpu,cpuacct/cpu.shares=512',
      'cpu,cpuacct/cpu.cfs_period_us=50000',
      'cpu,cpuacct/cpu.cfs_quota_us=5000',
      'cpu,cpuacct/cpu.cfs_burst_us=100',
      'pids/pids.max=20',
    ],
  );
});

test('an idle cgroup has no shares', () => {
  assert.deepEqual(limits({ cpu: { shares: 512, idle: 1 } }), ['cpu,cpuacct/cpu.idle=1']);
});

test('weights are 10 to 1000, and a burst is at most the quota', () => {
  assert.throws(
    () => limits({ blockIO: { weight: 5 } }),
    /linux\.resources\.blockIO\.weight: 5 must be 10 to 1000/,
  );
  assert.throws(
    () => limits({ blockIO: { weightDevice: [{ major: 8, minor: 0, leafWeight: 1001 }] } }),
    /blockIO\.weightDevice\[0\]\.leafWeight: 1001/,
  );
  assert.throws(
    () => limits({ cpu: { quota: 5000, burst: 5001 } }),
    /cpu\.burst: 5001 is more than cpu\.quota/,
  );
});

test('what a new cgroup has anyway is not written; an old one is reset', () => {
  const usual = {
    memory: { limit: -1, swap: -1, reservation: 0 },
    cpu: { shares: 1024, quota: -1, period: 100_000, idle: 0 },
    pids: { limit: -1 },
  };
  assert.deepEqual(limits(usual), []);
  const old = probeOf({ ...cpusetRoot, [`${ROOT}/pids/pod/c1/cgroup.procs`]: '' });
  assert.deepEqual(limits(usual, old), [
    'memory/memory.memsw.limit_in_bytes=-1',
    'memory/memory.limit_in_bytes=-1',
    'memory/memory.memsw.limit_in_bytes=-1',
    'cpu,cpuacct/cpu.idle=0',
    'cpu,cpuacct/cpu.shares=1024',
    'cpu,cpuacct/cpu.cfs_period_us=100000',
    'cpu,cpuacct/cpu.cfs_quota_us=-1',
    'cpu,cpuacct/cpu.cfs_period_us=100000',
    'pids/pids.max=max',
  ]);
});

test('a pids limit of 0 is a limit', () => {
  assert.deepEqual(limits({ pids: { limit: 0 } }), ['pids/pids.max=0']);
});

test('numbers above 2^53 are written exactly', () => {
  assert.deepEqual(limits({ memory: { limit: 9_223_372_036_854_771_712n } }), [
    'memory/memory.limit_in_bytes=9223372036854771712',
  ]);
});

for (const [resources, path] of [
  [{ memory: { swap: 10 } }, 'linux.resources.memory.swap'],
  [{ memory: { limit: 20, swap: 10 } }, 'linux.resources.memory.swap'],
  [{ memory: { limit: -2 } }, 'linux.resources.memory.limit'],
  [{ memory: { swappiness: 101 } }, 'linux.resources.memory.swappiness'],
  [{ cpu: { shares: 1 } }, 'linux.resources.cpu.shares'],
  [{ cpu: { period: 999 } }, 'linux.resources.cpu.period'],
  [{ cpu: { quota: 999 } }, 'linux.resources.cpu.quota'],
] as const) {
  test(`${JSON.stringify(resources)} is refused with its field`, () => {
    assert.throws(
      () => plan({ resources }),
      (error) =>
        error instanceof WherryError && error.kind === 'invalid-argument' && error.details.path === path,
    );
  });
}

test('a limit without its controller is refused with the field', () => {
  assert.throws(
    () => plan({ resources: { hugepageLimits: [{ pageSize: '2MB', limit: 1 }] } }),
    (error) => error instanceof WherryError && error.details.path === 'linux.resources.hugepageLimits[0]',
  );
});

test('a cgroup with processes in it is in use', () => {
  const probe = probeOf({ ...cpusetRoot, [`${ROOT}/pids/pod/c1/cgroup.procs`]: '12\n13' });
  assert.throws(() => plan({}, probe), {
    kind: 'failed-precondition',
    message: "container's cgroup is not empty: 2 process(es) found",
  });
});

test('a host without cgroups runs containers without limits only', () => {
  const none = describeCgroups({ mountinfo: '', cgroups: '', own: '', controllers: () => '' });
  const request = { cgroupsPath: '/c', id: 'c' };
  const { create, writes, procs, warnings } = planCgroup(none, request);
  assert.deepEqual([create, writes, procs, warnings.length], [[], [], [], 1]);
  assert.throws(
    () => planCgroup(none, { ...request, resources: { pids: { limit: 1 } } }),
    (error) => error instanceof WherryError && error.details.path === 'linux.resources.pids.limit',
  );
});
