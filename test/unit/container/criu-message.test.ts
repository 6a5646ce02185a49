/** criu's messages, compared with protoc's idea of them: field numbers are a contract with another program. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeAnswer, encodeGoOn, encodeRequest, RequestType } from '../../../src/container/criu/message.ts';

test('a request has each option under its number', () => {
  const bytes = encodeRequest(RequestType.DUMP, {
    imagesDir: 400,
    pid: 7,
    logFile: 'l',
    logLevel: 4,
    leaveRunning: true,
    cgroupsMode: 'soft',
    externalMounts: [{ key: '/a', value: '/b' }],
    networkLock: 'nftables',
  });
  const options = [
    '089003', // 1 images_dir_fd
    '1007', // 2 pid
    '1801', // 3 leave_running
    '4804', // 9 log_level
    '52016c', // 10 log_file
    '6001', // 12 notify_scripts
    'ba0108' + '0a022f61' + '12022f62', // 23 ext_mnt
    'c00101', // 24 manage_cgroups
    '900203', // 34 manage_cgroups_mode
    '900301', // 50 orphan_pts_master
    '800402', // 64 network_lock
  ].join('');
  const length = (options.length / 2).toString(16).padStart(2, '0');
  assert.equal(Buffer.from(bytes).toString('hex'), `080112${length}${options}`);
  assert.equal(Buffer.from(encodeGoOn()).toString('hex'), '08061801');
});

test('an answer is read as far as it goes', () => {
  assert.deepEqual(decodeAnswer(Buffer.from('08011000380d', 'hex')), { type: 1, success: false, errno: 13 });
  assert.deepEqual(decodeAnswer(Buffer.from('0802100122021007', 'hex')), { type: 2, success: true });
  assert.deepEqual(decodeAnswer(Buffer.from('080110004a20', 'hex')), { type: 1, success: false });
});
