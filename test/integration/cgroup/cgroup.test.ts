/** Root, and whatever cgroup hierarchies this machine has. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { detectCgroups, parseProcCgroup } from '../../../src/cgroup/hierarchy.ts';
import { planCgroup } from '../../../src/cgroup/plan.ts';
import { openCgroupReader } from '../../../src/cgroup/reader.ts';
import { removalOrder } from '../../../src/cgroup/tree.ts';
import type { LinuxResources } from '../../../src/oci/types.ts';
import { AppliedCgroup, testPath } from './applied.ts';

const host = detectCgroups();
const unified = host.mode === 'v2';
const read = (path: string) => readFileSync(path, 'utf8').trim();

function apply(name: string, resources: LinuxResources = {}): AppliedCgroup {
  return new AppliedCgroup(planCgroup(host, { cgroupsPath: testPath(name), id: 'c', resources }));
}
/** Value of a file of the cgroup: [controller, v1 file, v2 file]. */
function value({ plan }: AppliedCgroup, controller: string, v1: string, v2: string): string {
  return read(unified ? `${plan.paths['']}/${v2}` : `${plan.paths[controller]}/${v1}`);
}

test('the limits of config.json are what the kernel then has', async () => {
  await using cgroup = apply('limits', {
    memory: { limit: 134_217_728, swap: 268_435_456, reservation: 67_108_864 },
    cpu: { shares: 512, quota: 50_000, period: 200_000, cpus: '0' },
    pids: { limit: 50 },
  });
  assert.equal(value(cgroup, 'memory', 'memory.limit_in_bytes', 'memory.max'), '134217728');
  assert.equal(
    value(cgroup, 'memory', 'memory.memsw.limit_in_bytes', 'memory.swap.max'),
    unified ? '134217728' : '268435456',
  );
  assert.equal(value(cgroup, 'memory', 'memory.soft_limit_in_bytes', 'memory.low'), '67108864');
  assert.equal(value(cgroup, 'cpu', 'cpu.shares', 'cpu.weight'), unified ? '59' : '512');
  assert.equal(value(cgroup, 'cpu', 'cpu.cfs_quota_us', 'cpu.max'), unified ? '50000 200000' : '50000');
  assert.equal(value(cgroup, 'cpuset', 'cpuset.cpus', 'cpuset.cpus'), '0');
  assert.equal(value(cgroup, 'pids', 'pids.max', 'pids.max'), '50');
});

test('a cgroup that is there already takes new limits, higher and lower ones', async () => {
  const limits = (megabytes: number) => ({ memory: { limit: megabytes << 20, swap: megabytes << 20 } });
  await using first = apply('again', limits(64));
  for (const megabytes of [128, 32]) {
    const again = apply('again', limits(megabytes));
    assert.equal(value(again, 'memory', 'memory.limit_in_bytes', 'memory.max'), String(megabytes << 20));
    if (!unified)
      assert.equal(
        read(`${again.plan.paths['memory']}/memory.memsw.limit_in_bytes`),
        String(megabytes << 20),
      );
  }
  const lifted = apply('again', { memory: { limit: -1 } });
  assert.notEqual(value(lifted, 'memory', 'memory.limit_in_bytes', 'memory.max'), String(32 << 20));
  assert.ok(existsSync(first.plan.remove[0]!));
});

test('a process that attaches itself is in the cgroup in every hierarchy', async () => {
  await using cgroup = apply('attach');
  const pid = await cgroup.start('exec sleep 600');
  const own = parseProcCgroup(read(`/proc/${pid}/cgroup`));
  for (const [controller, path] of Object.entries(cgroup.plan.relative))
    assert.equal(own[controller], path, controller);
});

test('stats and pids of a process at work', async () => {
  await using cgroup = apply('stats', { pids: { limit: 20 }, memory: { limit: 134_217_728 } });
  const pid = await cgroup.start('while :; do :; done');
  const reader = openCgroupReader(cgroup.plan.paths, host.mode);
  const before = reader.sample();
  assert.equal(before.version, unified ? 2 : 1);
  assert.ok(reader.pids().includes(pid));
  assert.ok((before.pids?.current ?? 0n) >= 1n);
  assert.equal(before.pids?.limit, 20n);
  const cpu = (stats: typeof before) =>
    (stats.version === 1 ? stats.cpu?.total : stats.cpu?.stat['usage_usec']) ?? 0n;
  while (cpu(reader.sample()) <= cpu(before)) await new Promise((resolve) => setTimeout(resolve, 5));
  if (before.version === 1) {
    assert.equal(before.memory?.usage?.limit, 134_217_728n);
    assert.ok((before.memory?.usage?.usage ?? 0n) > 0n);
    assert.ok('total_rss' in (before.memory?.stat ?? {}));
    assert.equal(before.oomControl?.oomKill, 0n);
  } else {
    assert.equal(before.memory?.usageLimit, 134_217_728n);
    assert.ok('anon' in (before.memory?.stat ?? {}));
    assert.equal(before.memoryEvents?.['oom_kill'], 0n);
  }
  reader.close();
});

test('processes of cgroups below count, and everything below is removed', async () => {
  await using cgroup = apply('nested');
  const nested = cgroup.plan.remove.map((directory) => `${directory}/inner`);
  for (const directory of nested) mkdirSync(directory);
  const holder = cgroup.plan.paths['pids'] ?? cgroup.plan.paths['']!;
  // v2 refuses processes beside children only where controllers are handed down, which is not so here.
  const pid = await cgroup.start(`echo 0 > ${holder}/inner/cgroup.procs && exec sleep 600`);
  const reader = openCgroupReader(cgroup.plan.paths, host.mode);
  while (!read(`${holder}/inner/cgroup.procs`).includes(String(pid)))
    await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(reader.pids(), [pid]);
  await cgroup.stop();
  assert.deepEqual(reader.pids(), []);
  assert.deepEqual(removalOrder([holder]), [`${holder}/inner`, holder]);
});

test('a cgroup in use is refused, and the reader of a removed one says so', async () => {
  let reader: ReturnType<typeof openCgroupReader>;
  {
    await using cgroup = apply('used');
    await cgroup.start('exec sleep 600');
    assert.throws(() => planCgroup(host, { cgroupsPath: testPath('used'), id: 'c' }), {
      kind: 'failed-precondition',
      message: "container's cgroup is not empty: 1 process(es) found",
    });
    reader = openCgroupReader(cgroup.plan.paths, host.mode);
    reader.sample();
  }
  assert.throws(() => reader.sample(), { kind: 'not-found', message: 'cgroup does not exist' });
  assert.throws(() => reader.pids(), { kind: 'not-found' });
  reader.close();
});

test('device rules: what is allowed, what is not, and what every container may use', {
  skip: unified,
}, async () => {
  await using cgroup = apply('devices', {
    devices: [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
    ],
  });
  const list = read(`${cgroup.plan.paths['devices']}/devices.list`).split('\n');
  for (const rule of ['b *:* m', 'c *:* m', 'c 1:3 rwm', 'c 5:2 rwm', 'c 136:* rwm', 'c 10:229 rw']) {
    assert.ok(
      list.some((line) => line === rule),
      rule,
    );
  }
  assert.equal(list.length, 12);
  await using privileged = apply('privileged', {
    devices: [{ allow: false }, { allow: true, access: 'rwm' }],
  });
  assert.equal(read(`${privileged.plan.paths['devices']}/devices.list`), 'a *:* rwm');
});
