import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { readImage } from '../../../src/tape/image.ts';
import { type Label, TapeError } from '../../../src/tape/refs.ts';
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

test('nothing can be added to a tape that is assembled, and it does not change when others are built', () => {
  const tape = new Tape();
  tape.step('a', 'first');
  const place = tape.bytes(Buffer.from('data'));
  tape.syscall('chdir', ['/first'], { into: tape.reg() });
  tape.halt(1);
  const assembled = tape.assemble();
  const text = disassemble(assembled);
  const image = Buffer.from(assembled.image);
  const refused = tapeError(/assembled already/);
  assert.throws(() => tape.halt(2), refused);
  assert.throws(() => tape.cstr('more'), refused);
  assert.throws(() => tape.space(8), refused);
  assert.throws(() => tape.struct({ bytes: Buffer.alloc(8), pointers: [{ offset: 0, to: place }] }), refused);
  tape.step('b', 'second');
  const other = new Tape();
  for (let round = 0; round < 100; round++) other.syscall('chdir', [`/other/${round}`]);
  other.assemble();
  assert.equal(disassemble(assembled), text);
  assert.deepEqual(Buffer.from(assembled.image), image);
  assert.equal(assembled.steps.length, 1);
});

test('two tapes may be built at the same time, and one that nobody assembles harms no other', () => {
  const build = (tape: Tape, name: string) => {
    tape.step('a', name);
    const value = tape.syscall('openat', [-100, `/${name}`, 0]);
    tape.store(value, tape.space(8), 8);
  };
  const alone = (name: string) => {
    const tape = new Tape();
    build(tape, name);
    build(tape, `${name}2`);
    return disassemble(tape.assemble());
  };
  const [first, second, left] = [new Tape(), new Tape(), new Tape()];
  build(first, 'x');
  build(second, 'longer');
  build(left, 'z');
  build(first, 'x2');
  build(second, 'longer2');
  assert.equal(disassemble(second.assemble()), alone('longer'));
  assert.equal(disassemble(first.assemble()), alone('x'));
});

test('a tape may be larger than any before, and the next one smaller again', () => {
  const sized = (count: number) => {
    const tape = new Tape();
    const exit = tape.label('exit');
    for (let round = 0; round < count; round++) {
      const text = `/folder/with/a/name/${round}`;
      tape.syscall('chdir', [text], { on: { ENOENT: exit } });
      tape.store(tape.syscall('getpid', []), tape.space(16), 4);
    }
    tape.place(exit);
    return tape.assemble();
  };
  const small = Buffer.from(sized(10).image);
  const { instructions, data } = readImage(sized(5000).image);
  assert.equal(instructions.length, 4 * 5000 + 1);
  assert.ok(instructions.filter(({ op }) => op === 2).every(({ target }) => target === 20_000));
  assert.ok(data.includes('/folder/with/a/name/4999\0'));
  assert.deepEqual(Buffer.from(sized(10).image), small);
});

test('texts that are not ASCII are UTF-8, whatever stands before them', () => {
  const tape = new Tape();
  const texts = ['plain', 'naïve', 'a\u{1F6F6}', 'né', '', 'plain too', 'x\ud800'];
  const refs = texts.map((text) => tape.cstr(text));
  tape.pointers(refs);
  const image = readImage(tape.assemble().image);
  for (const [index, ref] of refs.entries()) {
    const expected = Buffer.from(`${texts[index]}\0`);
    assert.equal(ref.length, expected.length);
    const at = Number(image.data.readBigUInt64LE(index * 8));
    assert.deepEqual(image.data.subarray(at, at + ref.length), expected);
  }
});

test('a call that is performed is one whose result nobody reads', () => {
  const build = (call: (tape: Tape, on: { ENOENT: Label; any: Label }) => unknown) => {
    const tape = new Tape();
    const on = { ENOENT: tape.label('absent'), any: tape.label('any') };
    call(tape, on);
    tape.place(on.ENOENT);
    tape.place(on.any);
    return Buffer.from(tape.assemble().image);
  };
  const args = [-100, 'a', 0o7_0000_0000_0000, 2n ** 63n];
  assert.deepEqual(
    build((tape, on) => tape.perform('unlinkat', args, on)),
    build((tape, on) => tape.syscall('unlinkat', args, { on })),
  );
});
