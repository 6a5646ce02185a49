import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as c from '../../../src/linux/constants.ts';
import { LaneState, PAGE_BYTES } from '../../../src/tape/format.ts';
import { playError, readPage } from '../../../src/tape/outcome.ts';
import { Tape } from '../../../src/tape/tape.ts';

type LaneBytes = {
  step?: number;
  pc?: number;
  errno?: number;
  state: number;
  value?: bigint;
  order?: number;
};

function pageOf(...lanes: LaneBytes[]): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  lanes.forEach(({ step = 0, pc = 0, errno = 0, state, value = 0n, order = 0 }, index) => {
    page.writeUInt32LE(step, index * 32);
    page.writeUInt32LE(pc, index * 32 + 4);
    page.writeInt32LE(errno, index * 32 + 8);
    page.writeUInt32LE(state, index * 32 + 12);
    page.writeBigInt64LE(value, index * 32 + 16);
    page.writeBigUInt64LE(BigInt(order), index * 32 + 24);
  });
  return page;
}

/** 0 clone, 1 parent's wait, 2 parent's end, 3 mount, 4 filter, 5 exec. */
function sample() {
  const tape = new Tape('x86_64');
  tape.step('', 'start the first process');
  tape.syscall('clone3', [tape.space(88), 88]);
  tape.step('', 'wait for the first process');
  tape.syscall('read', [3, tape.space(1), 1]);
  tape.fail('EPIPE');
  tape.step('mounts[3]', 'mount tmpfs on /dev');
  tape.syscall('fsopen', ['tmpfs', 0]);
  tape.step('linux.seccomp', 'load the filter');
  tape.syscall('seccomp', [c.SECCOMP_SET_MODE_FILTER, 0, tape.space(16)]);
  tape.step('process.args', 'execute sh');
  tape.syscall('execve', ['/bin/sh', 0, 0]);
  return tape.assemble();
}
const { RUNNING, HALTED, FAILED } = LaneState;
const exit1 = 1 << 8;

test('no error when the player exits with 0, whatever the clone does', () => {
  const page = pageOf({ state: HALTED }, { state: RUNNING, step: 5, pc: 5 });
  assert.equal(playError(sample(), { waitStatus: 0, page }), undefined);
});

test('the failure that came first is told, with step, field, call and errno', () => {
  const page = pageOf(
    { state: FAILED, step: 2, pc: 2, errno: 32, value: -32n, order: 2 },
    { state: FAILED, step: 3, pc: 3, errno: 19, value: -19n, order: 1 },
  );
  const error = playError(sample(), { waitStatus: exit1, page });
  assert.equal(error?.message, 'mount tmpfs on /dev: no such device');
  assert.deepEqual(error?.details, {
    path: 'mounts[3]',
    errno: 19,
    syscall: 'fsopen',
    step: 'mount tmpfs on /dev',
  });

  const other = pageOf(
    { state: FAILED, step: 1, pc: 0, errno: 1, value: -1n, order: 1 },
    { state: FAILED, step: 3, pc: 3, errno: 19, value: -19n, order: 2 },
  );
  assert.equal(playError(sample(), { waitStatus: exit1, page: other })?.details.syscall, 'clone3');
});

test("a parent's own failure is not blamed on a clone that still runs", () => {
  const page = pageOf(
    { state: FAILED, step: 2, pc: 1, errno: 9, value: -9n, order: 1 },
    { state: RUNNING, step: 3, pc: 3 },
  );
  const error = playError(sample(), { waitStatus: exit1, page });
  assert.equal(error?.message, 'wait for the first process: bad file descriptor');
});

test('a clone that vanished behind its filter was killed by it', () => {
  const page = pageOf(
    { state: FAILED, step: 2, pc: 2, errno: 32, value: -32n, order: 1 },
    { state: RUNNING, step: 5, pc: 5 },
  );
  const guess = playError(sample(), { waitStatus: exit1, page });
  assert.equal(guess?.details.path, 'linux.seccomp');
  assert.match(
    guess?.message ?? '',
    /^execute sh: probably killed by the container's own seccomp filter at execve\(2\)$/,
  );
  assert.match(guess?.details.hint ?? '', /allow execve/);
  const sure = playError(sample(), { waitStatus: exit1, page, childStatus: c.SIGSYS | 0x80 });
  assert.match(sure?.message ?? '', /^execute sh: killed by the container's own seccomp filter/);
  const segv = playError(sample(), { waitStatus: exit1, page, childStatus: c.SIGSEGV });
  assert.equal(segv?.message, 'execute sh: killed by SIGSEGV at execve(2)');
});

test('a clone that vanished is told also where its parent then halts with a code', () => {
  const page = pageOf({ state: HALTED, step: 2, pc: 2, value: 1n }, { state: RUNNING, step: 3, pc: 3 });
  const error = playError(sample(), { waitStatus: exit1, page });
  assert.equal(error?.message, 'mount tmpfs on /dev: the process ended unexpectedly at fsopen(2)');
});

test('a deadline is not blamed on the filter', () => {
  const page = pageOf({ state: RUNNING, step: 2, pc: 1 }, { state: RUNNING, step: 5, pc: 5 });
  const error = playError(sample(), { waitStatus: c.SIGKILL, page });
  assert.equal(error?.message, 'execute sh: killed by SIGKILL at execve(2)');
});

test('a player that was killed says where it was', () => {
  const page = pageOf({ state: RUNNING, step: 2, pc: 1 });
  const error = playError(sample(), { waitStatus: c.SIGKILL, page });
  assert.equal(error?.kind, 'deadline-exceeded');
  assert.equal(error?.message, 'wait for the first process: killed by SIGKILL at read(2)');
});

test('a refused tape and a player that never began are internal errors', () => {
  const refused = pageOf({ state: FAILED, pc: 4, errno: 22 });
  assert.match(
    playError(sample(), { waitStatus: 2 << 8, page: refused })?.message ?? '',
    /refused the tape at instruction 4/,
  );
  const nothing = playError(sample(), { waitStatus: 127 << 8, page: pageOf() });
  assert.equal(nothing?.message, 'the player did not begin to play (exit code 127)');
  assert.equal(nothing?.kind, 'internal');
});

test('HALT with a code is told as such', () => {
  const page = pageOf({ state: HALTED, value: 7n });
  assert.equal(playError(sample(), { waitStatus: 7 << 8, page })?.message, 'the play ended with exit code 7');
});

test('slots come back as unsigned 64-bit numbers', () => {
  const page = Buffer.alloc(1024);
  page.writeBigUInt64LE(2n ** 64n - 1n, 128 + 8 * 111);
  assert.equal(readPage(page).slots[111], 2n ** 64n - 1n);
  assert.throws(() => readPage(page.subarray(0, 1000)), /shared page of 1000 bytes/);
});
