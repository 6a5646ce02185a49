import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deviceChange } from '../../../src/cgroup/devices-update.ts';

/** What the kernel lists for a container without rules of its own. */
const USUAL = [
  ...['c *:* m', 'b *:* m', 'c 1:3 rwm', 'c 1:5 rwm', 'c 1:7 rwm', 'c 1:8 rwm', 'c 1:9 rwm'],
  ...['c 5:0 rwm', 'c 5:2 rwm', 'c 10:200 rwm', 'c 136:* rwm'],
].join('\n');
const lines = (list: readonly { file: string; value: string }[]) =>
  list.map(({ file, value }) => `${file.replace('devices.', '')} ${value}`);

test('only what differs is written, and what is new is allowed before anything is denied', () => {
  const { settings, back } = deviceChange(`${USUAL}\nc 10:229 rw`, [
    { allow: false, access: 'rwm' },
    { allow: true, type: 'c', major: 1, minor: 11, access: 'r' },
    { allow: true, type: 'c', major: 10, minor: 229, access: 'rm' },
  ]);
  assert.deepEqual(lines(settings), ['allow c 1:11 r', 'allow c 10:229 m', 'deny c 10:229 w']);
  assert.deepEqual(lines(back), ['allow c 10:229 w', 'deny c 1:11 r', 'deny c 10:229 m']);
});

test('the same rules are nothing to write', () => {
  assert.deepEqual(deviceChange(USUAL, [{ allow: false, access: 'rwm' }]), { settings: [], back: [] });
});

test('to everything, and back', () => {
  const { settings, back } = deviceChange(USUAL, [{ allow: true, access: 'rwm' }]);
  assert.deepEqual(lines(settings), ['allow a *:* rwm']);
  assert.equal(lines(back)[0], 'deny a *:* rwm');
  assert.equal(back.length, 12);
  const closed = deviceChange('a *:* rwm', [{ allow: false, access: 'rwm' }]);
  assert.equal(lines(closed.settings)[0], 'deny a *:* rwm');
  assert.equal(closed.settings.length, 12);
  assert.deepEqual(lines(closed.back), ['allow a *:* rwm']);
});

test('a later rule takes back what an earlier one gave', () => {
  const { settings } = deviceChange(USUAL, [
    { allow: false },
    { allow: true, type: 'b', major: 8, access: 'rw' },
    { allow: false, type: 'b', major: 8, access: 'w' },
  ]);
  assert.deepEqual(lines(settings), ['allow b 8:* r']);
});
