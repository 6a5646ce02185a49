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
