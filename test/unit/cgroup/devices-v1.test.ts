import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceSettings } from '../../../src/cgroup/devices-v1.ts';
import type { LinuxDeviceRule } from '../../../src/oci/types.ts';

const show = (rules: LinuxDeviceRule[]) =>
  deviceSettings(rules).map(({ file, value }) => `${file === 'devices.allow' ? '+' : '-'}${value}`);
const denyAll: LinuxDeviceRule = { allow: false, access: 'rwm' };
const allowAll: LinuxDeviceRule = { allow: true, type: 'a', access: 'rwm' };
const usual = [
  '+c *:* m',
  '+b *:* m',
  '+c 1:3 rwm',
  '+c 1:5 rwm',
  '+c 1:7 rwm',
  '+c 1:8 rwm',
  '+c 1:9 rwm',
  '+c 5:0 rwm',
  '+c 5:2 rwm',
  '+c 10:200 rwm',
  '+c 136:* rwm',
];

test("config.json's rules, then what every container may use, once each", () => {
  assert.deepEqual(show([denyAll]), ['-a *:* rwm', ...usual]);
  assert.deepEqual(
    show([
      denyAll,
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
    ]),
    ['-a *:* rwm', '+c 10:229 rw', '+c 1:3 rwm', ...usual.filter((rule) => rule !== '+c 1:3 rwm')],
  );
});

test('without a rule for everything, everything is denied first', () => {
  assert.deepEqual(show([]), ['-a *:* rwm', ...usual]);
  assert.equal(show([{ allow: true, type: 'b', major: -1, minor: 0 }])[1], '+b *:0 rwm');
});

test('a privileged container is one write', () => {
  assert.deepEqual(show([denyAll, { allow: true, type: 'c', major: 1, minor: 3 }, allowAll]), ['+a *:* rwm']);
});

test('a denial after allow-all cannot take the usual devices away', () => {
  assert.deepEqual(show([allowAll, { allow: false, type: 'c', major: 1, minor: 3, access: 'rwm' }]), [
    '+a *:* rwm',
    '-c 1:3 rwm',
    ...usual,
  ]);
});

test('each write names its rule', () => {
  const fields = deviceSettings([allowAll, denyAll, { allow: true, type: 'c', major: 10 }]).map(
    ({ field }) => field,
  );
  assert.deepEqual(fields.slice(0, 3), [
    'linux.resources.devices[1]',
    'linux.resources.devices[2]',
    'linux.resources.devices',
  ]);
});
