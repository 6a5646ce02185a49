import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Field, INSTRUCTION_BYTES, Kind, Op } from '../../../src/tape/format.ts';
import { Tape } from '../../../src/tape/tape.ts';
import { Build } from './player.ts';

const build = new Build();
after(() => build.remove());
const fuzzer = build.fuzzer();

const CODE = 64;
/** 0 getpid, 1 its handler, 2 store, 3 load, 4 jump, 5 decimal, 6 lane, 7 set, 8 halt; 40 bytes of data, one pointer. */
function sample(): Buffer {
  const tape = new Tape();
  const end = tape.label('end');
  const data = tape.space(24);
  tape.pointers([data, null]);
  const pid = tape.syscall('getpid', [data, tape.slot(0)], { on: { any: end } });
  tape.store(pid, data, 8);
  tape.load(tape.slot(111), 4);
  tape.jumpIf(pid, 1, 2, end);
  tape.decimal(pid, data);
  tape.lane(1);
  tape.set(data);
  tape.place(end);
  tape.halt(0);
  return Buffer.from(tape.assemble().image);
}

const header = (field: number, value: number) => (image: Buffer) =>
  void image.writeUInt32LE(value, 8 + field * 4);
const byte = (pc: number, field: number, value: number) => (image: Buffer) =>
  void image.writeUInt8(value, CODE + pc * INSTRUCTION_BYTES + field);
const word = (pc: number, field: number, value: number) => (image: Buffer) =>
  void image.writeUInt32LE(value, CODE + pc * INSTRUCTION_BYTES + field);
const arg = (pc: number, value: bigint) => (image: Buffer) =>
  void image.writeBigUInt64LE(value, CODE + pc * INSTRUCTION_BYTES + Field.ARGS);
const DATA = CODE + 9 * INSTRUCTION_BYTES;
const RELOCATIONS = DATA + 64;

const damages: Record<string, (image: Buffer) => void> = {
  'another magic': (image) => void image.write('X'),
  'another architecture': header(0, 3),
  'no instruction': header(1, 0),
  'more instructions than bytes': header(1, 0xffffffff),
  'code inside the header': header(2, 8),
  'code that is not aligned': header(2, CODE + 4),
  'data over the code': header(3, CODE),
  'data that is longer than the image': header(4, 0xffffffff),
  'relocations over the data': header(5, DATA),
  'relocations that are not aligned': header(5, RELOCATIONS + 2),
  'more relocations than bytes': header(6, 1000),
  'a header field that is not zero': header(7, 1),
  'a relocation at the end of the data': (image) => void image.writeUInt32LE(40 - 7, RELOCATIONS),
  'a relocation far away': (image) => void image.writeUInt32LE(0xffffffff, RELOCATIONS),
  'a pointer to the end of the data': (image) => void image.writeBigUInt64LE(40n, DATA + 24),
  'instruction 0': byte(0, Field.OP, 0),
  'an unknown instruction': byte(0, Field.OP, Op.SET + 1),
  'seven arguments': byte(0, Field.NARGS, 7),
  'an argument after the end of the data': arg(0, 40n),
  'an argument that wraps around': arg(0, 2n ** 64n - 1n),
  'register 256': (image) => {
    byte(0, Field.KINDS, Kind.REGISTER)(image);
    arg(0, 256n)(image);
  },
  'a lane in the shared page': (image) => {
    byte(2, Field.KINDS, Kind.SHARED)(image);
    arg(2, 120n)(image);
  },
  'a store of 3 bytes': byte(2, Field.B, 3),
  'a store over the end of the data': arg(2, 33n),
  'a store to a number': byte(2, Field.KINDS, Kind.IMMEDIATE),
  'a store without a place': byte(2, Field.NARGS, 0),
  'a load over the end of the page': arg(3, 4093n),
  'a handler that jumps to itself': word(1, Field.TARGET, 1),
  'a jump back': word(4, Field.TARGET, 3),
  'a jump to the end': word(4, Field.TARGET, 9),
  'a jump that compares with an address': byte(4, Field.KINDS, Kind.DATA),
  'a decimal with 19 bytes of room': arg(5, 21n),
  'lane 4': arg(6, 4n),
  'a number of a kind that HALT does not take': byte(8, Field.KINDS, Kind.REGISTER),
  'a last instruction that does not end': byte(8, Field.OP, Op.SET),
};

function load(image: Uint8Array): string {
  const path = join(build.folder, 'image');
  writeFileSync(path, image);
  const { stdout, stderr } = spawnSync(fuzzer, ['0', '1', path], { encoding: 'utf8' });
  return `${stdout.trim()}${stderr}`;
}

test('the undamaged tape is accepted', () => {
  assert.equal(load(sample()), 'refused 0 accepted 1 played 0');
});

for (const [what, damage] of Object.entries(damages))
  test(`the loader refuses ${what}`, () => {
    const image = sample();
    damage(image);
    assert.equal(load(image), 'refused 1 accepted 0 played 0');
  });

test('the loader refuses a tape that is cut off anywhere', () => {
  const image = sample();
  const needed = RELOCATIONS + 4;
  for (let length = 0; length < needed; length += 41)
    assert.match(load(image.subarray(0, length)), /^refused 1/);
  assert.match(load(image.subarray(0, needed)), /^refused 0/);
});
