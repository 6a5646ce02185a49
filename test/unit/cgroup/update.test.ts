import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type CgroupHost, describeCgroups } from '../../../src/cgroup/hierarchy.ts';
import { planUpdate } from '../../../src/cgroup/update.ts';

const v1: CgroupHost = describeCgroups({
  mountinfo: ['memory', 'cpu', 'pids', 'blkio']
    .map((name, index) => `${index} 1 0:${index} / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}`)
    .join('\n'),
  cgroups: '',
  own: '',
  controllers: () => '',
});
const v2: CgroupHost = describeCgroups({
  mountinfo: '1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw',
  cgroups: '',
  own: '0::/',
  controllers: () => 'cpu memory pids io',
});
const pathsV1 = { memory: '/m', cpu: '/c', pids: '/p', blkio: '/b' };
const pathsV2 = { '': '/u' };

function probe(files: Record<string, string>) {
  return { exists: (path: string) => path in files, read: (path: string) => files[path] };
}
const pairs = (list: readonly { file: string; value: string }[]) =>
  list.map(({ file, value }) => `${file}=${value}`);

describe('new limits for a running container', () => {
  it('writes what is named, and knows what stood there before', () => {
    const plan = planUpdate(
      v1,
      pathsV1,
      { pids: { limit: 9 }, cpu: { shares: 512 } },
      probe({
        '/p/pids.max': 'max',
        '/c/cpu.shares': '1024',
      }),
    );
    assert.deepEqual(pairs(plan.writes), ['/c/cpu.shares=512', '/p/pids.max=9']);
    assert.deepEqual(pairs(plan.before), ['/p/pids.max=max', '/c/cpu.shares=1024']);
    assert.ok(plan.before.every(({ mayFail }) => mayFail?.includes('any')));
  });

  it('nothing named is nothing written', () => {
    assert.deepEqual(planUpdate(v1, pathsV1, {}, probe({})), { writes: [], before: [], warnings: [] });
  });

  it('a limit of swap alone is measured by the memory limit that is there', () => {
    const files = { '/u/memory.max': '1000', '/u/memory.swap.max': 'max' };
    const plan = planUpdate(v2, pathsV2, { memory: { swap: 1500 } }, probe(files));
    assert.ok(pairs(plan.writes).includes('/u/memory.swap.max=500'));
    assert.throws(() => planUpdate(v2, pathsV2, { memory: { swap: 500 } }, probe(files)), /memory\.swap/);
  });

  it('a new period keeps the quota (v2 has both in one file)', () => {
    const plan = planUpdate(
      v2,
      pathsV2,
      { cpu: { period: 50_000 } },
      probe({ '/u/cpu.max': '20000 100000' }),
    );
    assert.deepEqual(pairs(plan.writes), ['/u/cpu.max=20000 50000']);
    assert.deepEqual(pairs(plan.before), ['/u/cpu.max=20000 100000']);
  });

  it('a rate of one device is taken back to what it was, or to none', () => {
    const wanted = { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }] } };
    const plan = planUpdate(v2, pathsV2, wanted, probe({ '/u/io.max': '8:16 rbps=1' }));
    assert.deepEqual(pairs(plan.before), ['/u/io.max=8:0 rbps=max wbps=max riops=max wiops=max']);
  });

  it('checkBeforeUpdate refuses a limit below the usage', () => {
    const memory = { limit: 100, checkBeforeUpdate: true };
    assert.throws(
      () => planUpdate(v2, pathsV2, { memory }, probe({ '/u/memory.current': '200' })),
      /rejecting memory limit 100 < usage 200/,
    );
    assert.equal(planUpdate(v2, pathsV2, { memory }, probe({ '/u/memory.current': '50' })).writes.length, 1);
  });

  it('bad values name the field', () => {
    assert.throws(
      () => planUpdate(v1, pathsV1, { cpu: { period: 5 } }, probe({})),
      /linux\.resources\.cpu\.period/,
    );
    assert.throws(
      () => planUpdate(v1, { cpu: '/c' }, { pids: { limit: 5 } }, probe({})),
      /linux\.resources\.pids\.limit: the container has no pids cgroup/,
    );
  });
});

describe('limits that bound each other', () => {
  it('a processor that is no longer idle takes shares again; burst and period go before or after the quota', () => {
    const cpu = { shares: 512, idle: 0, quota: 5000, period: 20_000, burst: 100 } as const;
    const writes = (host: CgroupHost, paths: Record<string, string>) =>
      pairs(planUpdate(host, paths, { cpu }, probe({})).writes);
    assert.deepEqual(writes(v1, pathsV1), [
      '/c/cpu.idle=0',
      '/c/cpu.shares=512',
      '/c/cpu.cfs_burst_us=100',
      '/c/cpu.cfs_period_us=20000',
      '/c/cpu.cfs_quota_us=5000',
      '/c/cpu.cfs_period_us=20000',
      '/c/cpu.cfs_burst_us=100',
    ]);
    assert.deepEqual(writes(v2, pathsV2), [
      '/u/cpu.idle=0',
      '/u/cpu.weight=59',
      '/u/cpu.max.burst=100',
      '/u/cpu.max=5000 20000',
      '/u/cpu.max.burst=100',
    ]);
  });
});

describe('new device rules', () => {
  it('are differences on v1 and a program on v2', () => {
    const devices = [{ allow: false }, { allow: true, type: 'c', major: 1, minor: 11, access: 'r' }] as const;
    const usual = ['c *:* m', 'b *:* m', 'c 136:* rwm'];
    const list = [
      ...usual,
      ...['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:2', '10:200'].map((n) => `c ${n} rwm`),
    ];
    const plan = planUpdate(
      v1,
      { devices: '/d' },
      { devices: [...devices] },
      probe({ '/d/devices.list': list.join('\n') }),
    );
    assert.deepEqual(pairs(plan.writes), ['/d/devices.allow=c 1:11 r']);
    assert.deepEqual(pairs(plan.before), ['/d/devices.deny=c 1:11 r']);
    assert.equal(plan.deviceProgram, undefined);
    const unified = planUpdate(v2, pathsV2, { devices: [...devices] }, probe({}));
    assert.deepEqual(unified.writes, []);
    assert.ok((unified.deviceProgram?.length ?? 0) > 16);
    const open = planUpdate(v2, pathsV2, { devices: [{ allow: true }] }, probe({}));
    assert.equal(
      open.deviceProgram?.length,
      16,
      'a program that answers yes, as none would leave a moment without',
    );
  });
});
