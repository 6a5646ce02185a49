import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planCgroup } from '../../../src/cgroup/plan.ts';
import { slicePath, systemdUnit, type UnitRequest, unitProperties } from '../../../src/cgroup/systemd.ts';
import { annotationProperties } from '../../../src/cgroup/systemd-annotations.ts';
import { resourceProperties } from '../../../src/cgroup/systemd-resources.ts';
import { WherryError } from '../../../src/errors.ts';
import { completeTypes } from '../../../src/linux/sdbus.ts';
import { probeOf, v2Host } from './hosts.ts';

const invalid = (act: () => unknown, text: RegExp) =>
  assert.throws(
    act,
    (error: unknown) =>
      error instanceof WherryError && error.kind === 'invalid-argument' && text.test(error.message),
  );

test('slice:prefix:name is a scope in a slice', () => {
  assert.deepEqual(systemdUnit('machine.slice:libpod:abc', 'c1'), {
    name: 'libpod-abc.scope',
    slice: 'machine.slice',
    path: '/machine.slice/libpod-abc.scope',
  });
  assert.deepEqual(systemdUnit('', 'c1'), {
    name: 'wherry-c1.scope',
    slice: 'system.slice',
    path: '/system.slice/wherry-c1.scope',
  });
  assert.equal(systemdUnit('::c1', 'x').name, 'c1.scope');
  assert.equal(systemdUnit('-.slice:p:c1', 'x').path, '/p-c1.scope');
  assert.equal(systemdUnit('a.slice::a-pod.slice', 'x').name, 'a-pod.slice');
});

test('a slice lies in those that its name says', () => {
  assert.equal(slicePath('a-b-c.slice'), '/a.slice/a-b.slice/a-b-c.slice');
  assert.equal(slicePath('-.slice'), '');
  for (const bad of ['a', 'a--b.slice', '-a.slice', 'a/b.slice', '.slice'])
    invalid(() => slicePath(bad), /slice/);
});

test('other forms are refused', () => {
  for (const bad of ['/a/path', 'a:b', 'a.slice:b:c:d', 'a.slice:b:', 'a.slice:b:c/d', 'a.slice:b:c d'])
    invalid(() => systemdUnit(bad, 'c1'), /linux\.cgroupsPath/);
});

test("systemd's form without systemd's driver is a path, as with runc and crun, and is spoken of", () => {
  const { paths, warnings } = planCgroup(v2Host, { cgroupsPath: 'a.slice:b:c', id: 'c1' }, probeOf({}));
  assert.equal(paths[''], '/sys/fs/cgroup/system.slice/a.slice:b:c');
  assert.match(warnings.join(), /--systemd-cgroup/);
});

test("a user's units lie in what the user's manager has", () => {
  const manager = {
    controlGroup: '/user.slice/user-1000.slice/user@1000.service',
    defaultSlice: 'user.slice',
  };
  assert.deepEqual(systemdUnit('', 'c1', manager), {
    name: 'wherry-c1.scope',
    slice: 'user.slice',
    path: `${manager.controlGroup}/user.slice/wherry-c1.scope`,
  });
});

test('resources as properties, in the values that the files get', () => {
  const { shares, quota, period } = { shares: 512, quota: 50_001, period: 100_000 };
  assert.deepEqual(
    resourceProperties(
      {
        memory: { limit: 100, swap: 150, reservation: -1 },
        cpu: { shares, quota, period, cpus: '0-1,9', mems: '0' },
        pids: { limit: -1 },
        blockIO: { weight: 500 },
      },
      'v2',
    ).map(([name, { signature, value }]) => [name, signature, value]),
    [
      ['MemoryMax', 't', 100n],
      ['MemoryLow', 't', 2n ** 64n - 1n],
      ['MemorySwapMax', 't', 50n],
      ['CPUWeight', 't', 59n],
      ['CPUQuotaPeriodUSec', 't', 100_000n],
      ['CPUQuotaPerSecUSec', 't', 510_000n],
      ['AllowedCPUs', 'ay', new Uint8Array([3, 2])],
      ['AllowedMemoryNodes', 'ay', new Uint8Array([1])],
      ['TasksMax', 't', 2n ** 64n - 1n],
      ['IOWeight', 't', 4950n],
    ],
  );
  assert.deepEqual(resourceProperties({}, 'v2'), []);
});

test('on v1 the properties are those that v1 has', () => {
  const resources = {
    memory: { limit: 100, swap: 150, reservation: 50 },
    cpu: { shares: 512, quota: -1, cpus: '0' },
    blockIO: { weight: 500 },
  };
  assert.deepEqual(
    resourceProperties(resources, 'hybrid').map(([name, { value }]) => [name, value]),
    [
      ['MemoryLimit', 100n],
      ['CPUShares', 512n],
      ['CPUQuotaPerSecUSec', 2n ** 64n - 1n],
      ['BlockIOWeight', 500n],
    ],
  );
});

test('files of unified that systemd writes too are properties, and win', () => {
  const unified = {
    ...{ 'memory.high': '1000', 'memory.min': '1', 'memory.max': 'max', 'pids.max': '7' },
    ...{ 'cpu.max': '20000 50000', 'cpu.weight': '33', 'cpuset.cpus': '1', 'io.weight': 'default 40' },
    ...{ 'hugetlb.2MB.max': '0', 'memory.low': 'nonsense' },
  };
  assert.deepEqual(
    resourceProperties({ pids: { limit: 5 }, unified }, 'v2').map(([name, { value }]) => [name, value]),
    [
      ['TasksMax', 7n],
      ['MemoryHigh', 1000n],
      ['MemoryMin', 1n],
      ['MemoryMax', 2n ** 64n - 1n],
      ['CPUQuotaPeriodUSec', 50_000n],
      ['CPUQuotaPerSecUSec', 400_000n],
      ['CPUWeight', 33n],
      ['AllowedCPUs', new Uint8Array([2])],
      ['IOWeight', 40n],
    ],
  );
  assert.deepEqual(
    resourceProperties({ unified: { 'cpu.idle': '1' } }, 'v2').map(([name, { value }]) => [name, value]),
    [['CPUWeight', 0n]],
  );
  for (const cpus of ['x', '1-', '3-1', '99999999', '0-9000'])
    invalid(() => resourceProperties({ cpu: { cpus } }, 'v2'), /linux\.resources\.cpu\.cpus/);
});

test('a scope begins with a process, a slice with none', () => {
  const names = (path: string) => unitProperties(systemdUnit(path, 'c1'), request).map(([name]) => name);
  const request: UnitRequest = { id: 'c1', pid: 42, resources: {}, annotations: {}, mode: 'v2' };
  assert.ok(names('').includes('PIDs'));
  assert.ok(names('').includes('Slice'));
  assert.ok(!names('a.slice::a-b.slice').includes('PIDs'));
});

test('annotations are properties in their own text', () => {
  const of = (name: string, text: string) => annotationProperties({ [`org.systemd.property.${name}`]: text });
  assert.deepEqual(of('Description', "'it\\'s'"), [['Description', { signature: 's', value: "it's" }]]);
  assert.deepEqual(of('CollectMode', '"inactive"'), [['CollectMode', { signature: 's', value: 'inactive' }]]);
  assert.deepEqual(of('SendSIGHUP', 'true'), [['SendSIGHUP', { signature: 'b', value: true }]]);
  assert.deepEqual(of('TimeoutStopUSec', 'uint64 5'), [['TimeoutStopUSec', { signature: 't', value: 5n }]]);
  assert.deepEqual(of('TimeoutStopSec', '5'), [['TimeoutStopUSec', { signature: 't', value: 5_000_000n }]]);
  assert.deepEqual(of('After', "['a.service', 'b.service']"), [
    ['After', { signature: 'as', value: ['a.service', 'b.service'] }],
  ]);
  assert.deepEqual(annotationProperties({ 'org.example': '1' }), []);
  invalid(() => of('lower', '1'), /not a property/);
  invalid(() => of('Description', 'bare words'), /not a value/);
  invalid(() => of('TimeoutStopSec', "'x'"), /number/);
  invalid(() => of('TimeoutStopSec', '-1'), /number/);
  assert.deepEqual(of('TimeoutStopSec', '1.5'), [['TimeoutStopUSec', { signature: 't', value: 1_500_000n }]]);
  assert.deepEqual(of('DeviceAllow', "[('/dev/fuse', 'rw')]"), [
    ['DeviceAllow', { signature: 'a(ss)', value: [['/dev/fuse', 'rw']] }],
  ]);
});

test('a signature falls into its complete types', () => {
  assert.deepEqual(completeTypes('ssa(sv)a(sa(sv))ay'), ['s', 's', 'a(sv)', 'a(sa(sv))', 'ay']);
  assert.deepEqual(completeTypes(''), []);
});
