import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { readImage } from '../../../src/tape/image.ts';
import { TapeError } from '../../../src/tape/refs.ts';
import { Tape } from '../../../src/tape/tape.ts';

const tapeError = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TapeError, String(error));
  assert.match(error.message, pattern);
  return true;
};

test('a label that is used must be placed', () => {
  const tape = new Tape();
  tape.jump(tape.label('nowhere'));
  assert.throws(() => tape.assemble(), tapeError(/label nowhere is used but never placed/));
});

test('jumps only go forward', () => {
  const tape = new Tape();
  const back = tape.label('back');
  tape.place(back);
  assert.throws(() => tape.jump(back), tapeError(/backward jump to back/));
  assert.throws(
    () => tape.syscall('getpid', [], { on: { EPERM: back } }),
    tapeError(/backward jump to back/),
  );
  assert.throws(() => tape.place(back), tapeError(/placed twice/));
});

test('data that is too large is refused', () => {
  const tape = new Tape();
  tape.space(5 * 1024 * 1024);
  assert.throws(() => tape.space(5 * 1024 * 1024), tapeError(/overflow/));
  tape.cstr('x'.repeat(5 * 1024 * 1024));
  assert.throws(
    () => tape.assemble(),
    (error) => error instanceof TapeError && error.kind === 'resource-exhausted',
  );
});

test('texts are stored once and must not hold a NUL', () => {
  const tape = new Tape();
  assert.equal(tape.cstr('same').offset, tape.cstr('same').offset);
  assert.notEqual(tape.cstr('same').offset, tape.cstr('other').offset);
  assert.throws(() => tape.cstr('a\0b'), tapeError(/NUL/));
  const { data } = readImage(tape.assemble().image);
  assert.equal(data.toString(), 'same\0other\0');
});

test('operands are checked where they are used', () => {
  const tape = new Tape();
  const four = tape.space(4);
  const register = tape.reg();
  assert.throws(() => tape.store(register, four, 8), tapeError(/8 bytes do not fit into 4/));
  assert.throws(() => tape.load(four, 8), tapeError(/do not fit/));
  assert.throws(() => tape.decimal(register, tape.space(19)), tapeError(/20 bytes do not fit into 19/));
  assert.throws(() => four.at(2, 4), tapeError(/lies outside/));
  assert.throws(() => tape.slot(112), tapeError(/slot 112/));
  assert.throws(() => tape.lane(4), tapeError(/lane 4/));
  assert.throws(() => tape.halt(256), tapeError(/exit code/));
  assert.throws(() => tape.syscall('close', [1.5]), tapeError(/not an integer/));
  assert.throws(() => tape.syscall('getpid', [1, 2, 3, 4, 5, 6, 7]), tapeError(/7 arguments/));
});

test('numbers of both signs and widths become 64-bit words', () => {
  const tape = new Tape();
  const values = [-1, -100, 2 ** 40 + 7, -(2 ** 40), 0xffffffff, 2n ** 64n - 1n];
  tape.syscall('getpid', values);
  const { args } = readImage(tape.assemble().image).instructions[0]!;
  assert.deepEqual(
    args.map(({ value }) => value),
    values.map((value) => BigInt.asUintN(64, BigInt(value))),
  );
});

test('pointers lie in the data as offsets, with NULL between', () => {
  const tape = new Tape();
  const array = tape.pointers([tape.cstr('a'), null, tape.cstr('b')]);
  const image = readImage(tape.assemble().image);
  assert.deepEqual([...image.pointers], [array.offset, array.offset + 16]);
  const at = (index: number) => Number(image.data.readBigUInt64LE(array.offset + index * 8));
  assert.equal(at(1), 0);
  assert.equal(image.data.toString('utf8', at(0), at(0) + 2), 'a\0');
  assert.equal(image.data.toString('utf8', at(2), at(2) + 2), 'b\0');
});

test('registers are used again, and results that nobody reads get none', () => {
  const tape = new Tape();
  for (let round = 0; round < 1000; round++) {
    const fd = tape.syscall('openat', [-100, '/', 0]);
    tape.syscall('close', [fd]);
  }
  const { instructions } = readImage(tape.assemble().image);
  const used = new Set(instructions.slice(0, -1).map(({ dst }) => dst));
  assert.deepEqual([...used].sort(), [0, 255]);
});

test('a register that a jump may leave unwritten keeps a number of its own', () => {
  const tape = new Tape();
  const skip = tape.label('skip');
  const before = tape.set(7);
  tape.jumpIfEqual(before, 7, skip);
  const maybe = tape.set(9);
  tape.place(skip);
  tape.store(maybe, tape.slot(1), 8);
  const [first, , second] = readImage(tape.assemble().image).instructions;
  assert.notEqual(first!.dst, second!.dst);
});

test('more than 255 registers alive at once are refused', () => {
  const tape = new Tape();
  const registers = Array.from({ length: 256 }, (_, index) => tape.set(index));
  for (const register of registers) tape.store(register, tape.slot(0), 8);
  assert.throws(() => tape.assemble(), tapeError(/more than 255 registers/));
});

test('a tape that runs off its end halts with 0', () => {
  const tape = new Tape();
  tape.step('process', 'do nothing');
  tape.syscall('getpid', []);
  assert.match(disassemble(tape.assemble()), /1 {2}halt 0\n$/);
});

test('an assembled tape does not change when its builder goes on', () => {
  const tape = new Tape();
  tape.step('a', 'first');
  tape.halt(1);
  const assembled = tape.assemble();
  const text = disassemble(assembled);
  tape.step('b', 'second');
  tape.halt(2);
  assert.equal(disassemble(assembled), text);
  assert.equal(assembled.steps.length, 1);
});
