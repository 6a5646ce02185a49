import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMountinfo } from '../../../src/linux/mountinfo.ts';

test('mountinfo: places with blanks, types behind any number of optional fields', () => {
  const text =
    '36 35 98:0 /null /proc/k\\040core rw,nosuid master:1 shared:2 - tmpfs tmpfs rw\n41 36 0:5 / / rw - ext4 /dev/x rw\n';
  assert.deepEqual(parseMountinfo(text), [
    { id: 36, root: '/null', place: '/proc/k core', type: 'tmpfs', options: ['rw'] },
    { id: 41, root: '/', place: '/', type: 'ext4', options: ['rw'] },
  ]);
});
