/** systemd's list against our own rules: what the one denies the other never allows, whatever the rules are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { effectiveRules } from '../../../src/cgroup/devices-v1.ts';
import { allowedDevices, type DeviceEntry, deviceProperties } from '../../../src/cgroup/systemd-devices.ts';
import { WherryError } from '../../../src/errors.ts';
import type { LinuxDeviceRule } from '../../../src/oci/types.ts';
import '../../support/property-seed.ts';

interface Request {
  type: 'b' | 'c';
  major: number;
  minor: number;
  access: string;
}

const denyAll: LinuxDeviceRule = { allow: false, access: 'rwm' };

/** systemd.resource-control(5): one entry must allow all of a request. */
function bySystemd(
  list: readonly DeviceEntry[] | undefined,
  { type, major, minor, access }: Request,
): boolean {
  if (list === undefined) return true;
  return list.some(
    (entry) =>
      entry.type === type &&
      (entry.major < 0 || entry.major === major) &&
      (entry.minor < 0 || entry.minor === minor) &&
      [...access].every((right) => entry.access.has(right)),
  );
}

/** Each right by the last rule that speaks of it. */
function byRules(rules: readonly LinuxDeviceRule[], { type, major, minor, access }: Request): boolean {
  const { allowed, rules: list } = effectiveRules(rules);
  return [...access].every((right) => {
    const rule = list.findLast(
      (one) =>
        one.type === type &&
        (one.major === undefined || one.major < 0 || Number(one.major) === major) &&
        (one.minor === undefined || one.minor < 0 || Number(one.minor) === minor) &&
        (one.access || 'rwm').includes(right),
    );
    return rule?.allow ?? allowed;
  });
}

const some = (max: number) => fc.integer({ min: -1, max });
const accesses = ['r', 'w', 'm', 'rw', 'rm', 'wm', 'rwm'];
const rule = (allow: fc.Arbitrary<boolean>, wildcards: boolean) =>
  fc.record({
    allow,
    type: fc.constantFrom('b', 'c'),
    major: wildcards ? some(2) : fc.integer({ min: 0, max: 2 }),
    minor: wildcards ? some(2) : fc.integer({ min: 0, max: 2 }),
    access: fc.constantFrom(...accesses),
  }) as fc.Arbitrary<LinuxDeviceRule>;
const requests = fc.record({
  type: fc.constantFrom('b', 'c') as fc.Arbitrary<'b' | 'c'>,
  major: fc.integer({ min: 0, max: 2 }),
  minor: fc.integer({ min: 0, max: 6 }),
  access: fc.constantFrom(...accesses),
});

test('v2: whatever our rules allow, systemd allows', () => {
  fc.assert(
    fc.property(
      fc.array(rule(fc.boolean(), true), { maxLength: 6 }),
      fc.boolean(),
      requests,
      (rules, denied, request) => {
        const all = denied ? [denyAll, ...rules] : rules;
        if (byRules(all, request)) assert.ok(bySystemd(allowedDevices(all, 'v2'), request));
      },
    ),
    { numRuns: 5000 },
  );
});

test('v2 and v1: rules that name their devices are the same list', () => {
  const runs = { numRuns: 3000 };
  const rules = fc.array(rule(fc.boolean(), false), { maxLength: 6 });
  fc.assert(
    fc.property(rules, requests, fc.constantFrom('v2', 'v1', 'hybrid'), (list, request, mode) => {
      const all = [denyAll, ...list];
      // mknod of every device is always allowed, and systemd wants it in the same entry as the rest.
      assert.equal(bySystemd(allowedDevices(all, mode as 'v2'), request), byRules(all, request));
    }),
    runs,
  );
});

test('the specifiers are those that systemd reads', () => {
  const properties = deviceProperties(
    [
      denyAll,
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
      { allow: true, type: 'b', major: 8, access: 'r' },
    ],
    'v2',
  );
  assert.deepEqual(
    properties.map(([name, { signature }]) => [name, signature]),
    [
      ['DevicePolicy', 's'],
      ['DeviceAllow', 'a(ss)'],
      ['DeviceAllow', 'a(ss)'],
    ],
  );
  assert.equal(properties[0]?.[1].value, 'strict');
  assert.deepEqual(properties[1]?.[1].value, []);
  const list = (properties[2]![1].value as string[][]).map((pair) => pair.join(' '));
  for (const wanted of [
    '/dev/char/10:229 mrw',
    'block-8 mr',
    'char-* m',
    'block-* m',
    'char-136 mrw',
    '/dev/char/1:3 mrw',
  ])
    assert.ok(list.includes(wanted), `${wanted} in ${list.join(', ')}`);
});

test('everything allowed: systemd has nothing to say', () => {
  assert.deepEqual(
    deviceProperties([{ allow: true, access: 'rwm' }], 'v1').map(([, { value }]) => value),
    ['auto', []],
  );
});

test('v1: what systemd would undo is refused', () => {
  for (const rules of [
    [
      { allow: true, access: 'rwm' },
      { allow: false, type: 'c', major: 1, minor: 1, access: 'rwm' },
    ],
    [denyAll, { allow: true, type: 'c', minor: 5, access: 'rwm' }],
  ] as LinuxDeviceRule[][]) {
    assert.throws(
      () => deviceProperties(rules, 'hybrid'),
      (error: unknown) => error instanceof WherryError && error.kind === 'failed-precondition',
    );
    assert.equal(deviceProperties(rules, 'v2')[0]?.[1].value, 'auto');
  }
});
