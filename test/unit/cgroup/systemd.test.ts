import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planCgroup } from '../../../src/cgroup/plan.ts';
import {
  annotationProperties,
  resourceProperties,
  slicePath,
  systemdUnit,
  unitProperties,
} from '../../../src/cgroup/systemd.ts';
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
  // And systemd's form where the other driver is asked.
  const request = { cgroupsPath: 'a.slice:b:c', id: 'c1' };
  invalid(() => planCgroup(v2Host, request, probeOf({})), /systemd/);
});

test('resources as properties, in the values that the files get', () => {
  const { shares, quota, period } = { shares: 512, quota: 50_001, period: 100_000 };
  assert.deepEqual(
    resourceProperties({
      memory: { limit: 100, swap: 150, reservation: -1 },
      cpu: { shares, quota, period, cpus: '0-1,9', mems: '0' },
      pids: { limit: -1 },
    }).map(([name, { signature, value }]) => [name, signature, value]),
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
    ],
  );
  assert.deepEqual(resourceProperties({}), []);
});

test('a scope begins with a process, a slice with none', () => {
  const names = (path: string) =>
    unitProperties(systemdUnit(path, 'c1'), 'c1', 42, {}, {}).map(([name]) => name);
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
});

test('a signature falls into its complete types', () => {
  assert.deepEqual(completeTypes('ssa(sv)a(sa(sv))ay'), ['s', 's', 'a(sv)', 'a(sa(sv))', 'ay']);
  assert.deepEqual(completeTypes(''), []);
});
