import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { openCgroupReader } from '../../../src/cgroup/reader.ts';
import type { CgroupV1Stats, CgroupV2Stats } from '../../../src/cgroup/stats.ts';
import { cgroupTree, removalOrder } from '../../../src/cgroup/tree.ts';
import { v1Files, v2Files } from './recorded.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wherry-test-cgroup-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function put(files: Readonly<Record<string, string>>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, content);
  }
}

const v1Paths = () =>
  Object.fromEntries(
    ['cpu', 'cpuacct', 'memory', 'pids', 'blkio', 'hugetlb', 'rdma'].map((name) => [
      name,
      join(folder, name === 'cpuacct' ? 'cpu' : name),
    ]),
  );
const descriptors = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false;
    }
  }).length;

test('every field of v1', () => {
  put(v1Files);
  const reader = openCgroupReader(v1Paths(), 'v1');
  const stats = reader.sample() as CgroupV1Stats;
  reader.close();
  assert.equal(stats.version, 1);
  assert.deepEqual(stats.pids, { current: 3n, limit: 0n });
  assert.deepEqual(stats.cpu, {
    total: 13_221_808n,
    user: 40_000_000n,
    kernel: 70_000_000n,
    perCpu: [13_221_808n, 0n],
    periods: 2n,
    throttledPeriods: 1n,
    throttledTime: 15_000n,
  });
  assert.equal(stats.memory?.stat['total_inactive_file'], 1_916_928n);
  assert.deepEqual(stats.memory?.usage, {
    usage: 2_420_736n,
    limit: 134_217_728n,
    max: 2_695_168n,
    failcnt: 4n,
  });
  assert.deepEqual(stats.memory?.swap, {
    usage: 2_420_740n,
    limit: 268_435_456n,
    max: 2_695_170n,
    failcnt: 0n,
  });
  assert.equal(stats.memory?.kernel?.limit, 9_223_372_036_854_771_712n);
  assert.equal(stats.memory?.kernelTcp?.max, 0n);
  assert.deepEqual(stats.oomControl, { oomKillDisable: 0n, underOom: 0n, oomKill: 2n });
  assert.deepEqual(
    stats.blkio?.['ioServiceBytesRecursive']?.map(({ op, value }) => [op, value]),
    [
      ['Read', 4096n],
      ['Write', 0n],
      ['Total', 4096n],
    ],
  );
  assert.deepEqual(stats.hugetlb, [{ pagesize: '2MB', usage: 2_097_152n, max: 4_194_304n, failcnt: 1n }]);
  assert.deepEqual(stats.rdma, {
    current: [{ device: 'mlx4_0', hcaHandles: 2, hcaObjects: 2000 }],
    limit: [{ device: 'mlx4_0', hcaHandles: 3, hcaObjects: 4294967295 }],
  });
});

test('every field of v2', () => {
  put(v2Files);
  const reader = openCgroupReader({ '': folder }, 'v2');
  const stats = reader.sample() as CgroupV2Stats;
  reader.close();
  const pressure = { avg10: 1.5, avg60: 0.2, avg300: 0, total: 12_345n };
  assert.deepEqual(stats.pids, { current: 1n, limit: 2n ** 64n - 1n });
  assert.equal(stats.cpu?.stat['usage_usec'], 123_456n);
  assert.deepEqual(stats.cpu?.pressure?.some, pressure);
  assert.equal(stats.memory?.stat['inactive_file'], 4096n);
  assert.deepEqual(
    { ...stats.memory, stat: {} },
    {
      stat: {},
      usage: 1_048_576n,
      usageLimit: 134_217_728n,
      swapUsage: 0n,
      swapLimit: 2n ** 64n - 1n,
      maxUsage: 2_097_152n,
      swapMaxUsage: 10n,
      pressure: { some: pressure, full: { avg10: 0, avg60: 0, avg300: 0, total: 0n } },
    },
  );
  assert.deepEqual(stats.memoryEvents, {
    low: 0n,
    high: 0n,
    max: 3n,
    oom: 1n,
    oom_kill: 1n,
    oom_group_kill: 0n,
  });
  assert.deepEqual(stats.io?.usage, [
    { major: 254n, minor: 0n, rbytes: 4096n, wbytes: 8192n, rios: 1n, wios: 2n },
  ]);
  assert.ok(stats.io?.pressure?.some);
  assert.deepEqual(stats.hugetlb, [{ pagesize: '2MB', current: 0n, max: 2n ** 64n - 1n, failcnt: 7n }]);
  assert.equal(stats.rdma?.current[0]?.device, 'mlx4_0');
});

test('values are read anew, through the same descriptors', () => {
  put(v2Files);
  const reader = openCgroupReader({ '': folder }, 'v2');
  assert.equal(descriptors(), 0);
  reader.sample();
  const open = descriptors();
  assert.ok(open > 0);
  put({ 'memory.current': '7\n', 'cpu.stat': 'usage_usec 9\n' });
  const stats = reader.sample() as CgroupV2Stats;
  assert.equal(stats.memory?.usage, 7n);
  assert.deepEqual(stats.cpu?.stat, { usage_usec: 9n });
  assert.equal(descriptors(), open);
  reader.close();
  assert.equal(descriptors(), 0);
});

test('a file longer than the buffer is read whole', () => {
  const cpus = Array.from({ length: 8192 }, (_, index) => BigInt(index) * 1_000_000n);
  put({ ...v1Files, 'cpu/cpuacct.usage_percpu': `${cpus.join(' ')}\n` });
  const reader = openCgroupReader(v1Paths(), 'v1');
  assert.deepEqual((reader.sample() as CgroupV1Stats).cpu?.perCpu, cpus);
  reader.close();
});

test('missing files leave fields out', () => {
  put({ 'pids/pids.current': '4\n', 'memory/memory.stat': 'cache 1\n' });
  const { takenAt, ...stats } = openCgroupReader(v1Paths(), 'hybrid').sample();
  assert.ok(takenAt instanceof Date);
  assert.deepEqual(stats, { version: 1, pids: { current: 4n, limit: 0n }, memory: { stat: { cache: 1n } } });
});

test('a cgroup that is not there, or no more', () => {
  const gone = { kind: 'not-found', message: 'cgroup does not exist' };
  put(v2Files);
  const reader = openCgroupReader({ '': join(folder, 'none') }, 'v2');
  assert.throws(() => reader.sample(), gone);
  assert.throws(() => reader.pids(), gone);
  assert.throws(() => openCgroupReader({}, 'none').sample(), gone);
});

test('an empty cgroup folder is a cgroup without controllers', () => {
  assert.equal(openCgroupReader({ '': folder }, 'v2').sample().version, 2);
});

test('pids of the whole tree, in order, once, without those that cannot be seen', () => {
  put({
    'cgroup.procs': '20\n7\n0\n',
    'a/cgroup.procs': '7\n300\n',
    'a/b/cgroup.procs': Array.from({ length: 20_000 }, (_, index) => `${index + 1000}\n`).join(''),
    'c/other': '',
  });
  const pids = openCgroupReader({ '': folder }, 'v2').pids();
  assert.deepEqual(pids.slice(0, 4), [7, 20, 300, 1000]);
  assert.equal(pids.length, 20_003);
});

test('removal goes from the leaves to the folder itself', () => {
  put({ 'a/b/x': '', 'c/x': '' });
  const order = cgroupTree(folder).map((path) => path.slice(folder.length));
  assert.equal(order.at(-1), '');
  assert.ok(order.indexOf('/a/b') < order.indexOf('/a'));
  assert.deepEqual(order.toSorted(), ['', '/a', '/a/b', '/c']);
  assert.deepEqual(removalOrder([join(folder, 'none'), join(folder, 'c')]), [join(folder, 'c')]);
});
