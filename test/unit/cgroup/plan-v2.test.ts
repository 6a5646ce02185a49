import assert from 'node:assert/strict';
import { test } from 'node:test';
import { weightOfShares } from '../../../src/cgroup/limits-v2.ts';
import { type CgroupRequest, planCgroup } from '../../../src/cgroup/plan.ts';
import { WherryError } from '../../../src/errors.ts';
import { probeOf, v2Host } from './hosts.ts';

const ROOT = '/sys/fs/cgroup';
const ALL = 'cpuset cpu io memory hugetlb pids rdma misc';
const enabled = probeOf({
  [`${ROOT}/io.cost.qos`]: '',
  [`${ROOT}/cgroup.subtree_control`]: ALL,
  [`${ROOT}/pod/cgroup.subtree_control`]: ALL,
});

function plan(request: Partial<CgroupRequest>, probe = enabled) {
  return planCgroup(v2Host, { cgroupsPath: '/pod/c1', id: 'c1', ...request }, probe);
}
const limits = (resources: CgroupRequest['resources'], probe = enabled) =>
  plan({ resources }, probe).writes.map(({ file, value }) => `${file.replace(`${ROOT}/`, '')}=${value}`);

test('one folder, one file to attach by, one to clone into', () => {
  const { deviceProgram, ...rest } = plan({});
  assert.ok(deviceProgram !== undefined, 'without rules, all but the usual devices are denied');
  assert.deepEqual(rest, {
    paths: { '': `${ROOT}/pod/c1` },
    relative: { '': '/pod/c1' },
    create: [`${ROOT}/pod/c1`],
    writes: [],
    procs: [`${ROOT}/pod/c1/cgroup.procs`],
    cloneInto: `${ROOT}/pod/c1`,
    remove: [`${ROOT}/pod/c1`],
    warnings: [],
  });
});

test('a relative path is beside the own cgroup, which holds processes', () => {
  assert.equal(plan({ cgroupsPath: 'a/b' }).paths[''], `${ROOT}/system.slice/a/b`);
});

test('limits as v2 has them', () => {
  assert.deepEqual(
    limits({
      memory: { limit: 100, swap: 150, reservation: 50 },
      cpu: { shares: 512, quota: 5000, period: 50_000, burst: 10, cpus: '0-1', mems: '0' },
      pids: { limit: 20 },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 }],
      rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 10 } },
      blockIO: { weight: 500, throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1000 }] },
      unified: { 'memory.high': '90', 'io.max': '8:0 wbps=1\n8:16 wbps=2' },
    }),
    [
      'pod/c1/memory.max=100',
      'pod/c1/memory.swap.max=50',
      'pod/c1/memory.low=50',
      'pod/c1/cpu.weight=59',
      'pod/c1/cpu.max=5000 50000',
      'pod/c1/cpu.max.burst=10',
      'pod/c1/cpuset.cpus=0-1',
      'pod/c1/cpuset.mems=0',
      'pod/c1/pids.max=20',
      'pod/c1/io.bfq.weight=500',
      'pod/c1/io.weight=4950',
      'pod/c1/io.max=8:0 rbps=1000',
      'pod/c1/hugetlb.2MB.max=4',
      'pod/c1/hugetlb.2MB.rsvd.max=4',
      'pod/c1/rdma.max=mlx5_1 hca_handle=3 hca_object=10',
      'pod/c1/memory.high=90',
      'pod/c1/io.max=8:0 wbps=1',
      'pod/c1/io.max=8:16 wbps=2',
    ],
  );
});

test('what a new cgroup has anyway is not written; an old one is reset', () => {
  const usual = {
    memory: { limit: -1, swap: -1 },
    cpu: { shares: 1024, quota: -1, period: 100_000 },
    pids: { limit: -1 },
  };
  assert.deepEqual(limits(usual), []);
  const old = probeOf({
    [`${ROOT}/cgroup.subtree_control`]: ALL,
    [`${ROOT}/pod/cgroup.subtree_control`]: ALL,
    [`${ROOT}/pod/c1/cgroup.procs`]: '',
  });
  assert.deepEqual(limits(usual, old), [
    'pod/c1/memory.max=max',
    'pod/c1/memory.swap.max=max',
    'pod/c1/cpu.weight=100',
    'pod/c1/cpu.max=max 100000',
    'pod/c1/pids.max=max',
  ]);
});

test('no swap at all is a limit, and true on kernels without swap', () => {
  const write = plan({ resources: { memory: { limit: 100, swap: 100 } } }).writes.at(-1);
  assert.deepEqual([write?.value, write?.mayFail], ['0', ['ENOENT']]);
});

test('a period alone is a limit only when it is not the usual one', () => {
  assert.deepEqual(limits({ cpu: { period: 50_000 } }), ['pod/c1/cpu.max=max 50000']);
  assert.deepEqual(limits({ cpu: { quota: 5000 } }), ['pod/c1/cpu.max=5000']);
});

test('controllers are handed down where they are missing: needed ones must, useful ones may fail', () => {
  const probe = probeOf({ [`${ROOT}/cgroup.subtree_control`]: 'cpu memory pids' });
  const writes = plan({ resources: { memory: { limit: 1 }, cpu: { cpus: '0' } } }, probe).writes;
  assert.deepEqual(
    writes
      .slice(0, 4)
      .map(({ file, value, mayFail }) => [file.replace(`${ROOT}/`, ''), value, mayFail !== undefined]),
    [
      ['cgroup.subtree_control', '+cpuset', false],
      ['cgroup.subtree_control', '+io +hugetlb +rdma', true],
      ['pod/cgroup.subtree_control', '+memory +cpuset', false],
      ['pod/cgroup.subtree_control', '+cpu +io +pids +hugetlb +rdma', true],
    ],
  );
});

test('a pids limit of 0 rules out cloning into the cgroup', () => {
  assert.equal(plan({ resources: { pids: { limit: 0 } } }).cloneInto, undefined);
});

test('what v2 does not have is told', () => {
  const { warnings } = plan({
    resources: {
      memory: { swappiness: 10, disableOOMKiller: true },
      cpu: { realtimePeriod: 1 },
      network: { classID: 1 },
    },
  });
  for (const name of ['swappiness', 'disableOOMKiller', 'realtimePeriod', 'network']) {
    assert.ok(
      warnings.some((text) => text.includes(name)),
      name,
    );
  }
});

test('unified names one file of the cgroup and no other', () => {
  for (const name of ['../cgroup.procs', 'a/b.c', 'memory', '.x', '']) {
    assert.throws(
      () => plan({ resources: { unified: { [name]: '1' } } }),
      { kind: 'invalid-argument' },
      name,
    );
  }
  assert.throws(
    () => plan({ resources: { unified: { 'nothing.max': '1' } } }),
    (error) =>
      error instanceof WherryError && error.details.path === 'linux.resources.unified["nothing.max"]',
  );
});

test('the curve from shares to weight goes through both ends and both defaults, and never falls', () => {
  assert.deepEqual([0, 2, 512, 1024, 2048, 262_144].map(weightOfShares), [1, 1, 59, 100, 174, 10_000]);
  let last = 0;
  for (let shares = 2; shares <= 262_144; shares += 97) {
    const weight = weightOfShares(shares);
    assert.ok(weight >= last && weight >= 1 && weight <= 10_000);
    last = weight;
  }
});

test('a weight needs a scheduler that has one: without blk-iocost it must be bfq', () => {
  const writes = (probe = enabled) =>
    plan(
      { resources: { blockIO: { weight: 500, weightDevice: [{ major: 8, minor: 0, weight: 10 }] } } },
      probe,
    ).writes.map(
      ({ file, value, mayFail }) =>
        `${file.replace(`${ROOT}/pod/c1/`, '')}=${value} ${mayFail === undefined}`,
    );
  assert.deepEqual(writes(), [
    'io.bfq.weight=500 false',
    'io.weight=4950 true',
    'io.bfq.weight=8:0 10 false',
    'io.weight=8:0 1 true',
  ]);
  const bfqAlone = probeOf({
    [`${ROOT}/cgroup.subtree_control`]: ALL,
    [`${ROOT}/pod/cgroup.subtree_control`]: ALL,
  });
  assert.deepEqual(writes(bfqAlone), ['io.bfq.weight=500 true', 'io.bfq.weight=8:0 10 true']);
  const ofTheDevice = {
    ...enabled,
    read: (path: string) => (path.endsWith('8:0/queue/scheduler') ? 'none [bfq]' : enabled.read(path)),
  };
  assert.deepEqual(writes(ofTheDevice).slice(2), ['io.bfq.weight=8:0 10 true', 'io.weight=8:0 1 false']);
});

test('unified: orders to the processes are no limits', () => {
  for (const file of ['cgroup.procs', 'cgroup.kill', 'cgroup.freeze', 'cgroup.type', 'cgroup.threads'])
    assert.throws(
      () => plan({ resources: { unified: { [file]: '1' } } }),
      new RegExp(`unified\\["${file}"\\]: not a limit`),
    );
});
