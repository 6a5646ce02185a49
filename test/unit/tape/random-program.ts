/** Random tapes that make no dangerous system call, and what they must do, computed without the player. */
import fc from 'fast-check';
import { errnoNumbers } from '../../../src/linux/errno.ts';
import type { Label, Reg } from '../../../src/tape/refs.ts';
import { Tape } from '../../../src/tape/tape.ts';

/** Registers, slots and data cells are numbers; `skip` is how many of the following acts a taken jump passes over. */
export type Act =
  | { act: 'set'; into: number; value: bigint }
  | { act: 'copy'; into: number; from: number }
  | { act: 'store'; from: number; place: Place; width: 4 | 8 }
  | { act: 'load'; into: number; place: Place; width: 4 | 8 }
  | { act: 'jump'; register: number; mask: bigint; equals: number | bigint; skip: number }
  | { act: 'digits'; from: number; slot: number }
  | { act: 'fail-call'; into: number; on: 'EBADF' | 'any'; skip: number };

type Place = { slot: number } | { cell: number };

/** Registers that live long; acts also write new ones (`FRESH`) and read those written lately (`FRESH + 1…`). */
const OLD = 10;
const FRESH = 1000;
export const OUTPUTS = 20;
const CELLS = 5;

const register = fc.oneof(fc.nat(OLD - 1), fc.integer({ min: FRESH + 1, max: FRESH + 4 }));
const target = fc.oneof(fc.nat(OLD - 1), fc.constant(FRESH));
const slot = fc.integer({ min: 1, max: OUTPUTS - 1 });
const place: fc.Arbitrary<Place> = fc.oneof(fc.record({ slot }), fc.record({ cell: fc.nat(CELLS - 1) }));
const width = fc.constantFrom<4 | 8>(4, 8);
const skip = fc.nat(12);
const small = fc.bigInt({ min: 0n, max: 3n });
const value = fc.oneof(small, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }));

const act: fc.Arbitrary<Act> = fc.oneof(
  fc.record({ act: fc.constant('set' as const), into: target, value }),
  fc.record({ act: fc.constant('copy' as const), into: target, from: register }),
  fc.record({ act: fc.constant('store' as const), from: register, place, width }),
  fc.record({ act: fc.constant('load' as const), into: target, place, width }),
  fc.record({
    act: fc.constant('jump' as const),
    register,
    mask: fc.oneof(small, value),
    equals: fc.oneof(register, small),
    skip,
  }),
  fc.record({ act: fc.constant('digits' as const), from: register, slot }),
);
const failingCall: fc.Arbitrary<Act> = fc.record({
  act: fc.constant('fail-call' as const),
  into: target,
  on: fc.constantFrom('EBADF' as const, 'any' as const),
  skip,
});

/** Without any system call. */
export const quietPrograms = fc.array(act, { maxLength: 80 }).map(resolve);
/** Also calls that fail and are handled. */
export const programs = fc
  .array(fc.oneof({ weight: 7, arbitrary: act }, { weight: 1, arbitrary: failingCall }), { maxLength: 80 })
  .map(resolve);

/** Gives each new register a number of its own: short lives, so that numbers are used again. */
function resolve(program: readonly Act[]): Act[] {
  const written: number[] = [0];
  const read = (n: number) => (n < FRESH ? n : written.at(-Math.min(n - FRESH, written.length))!);
  return program.map((item, index) => {
    const result = { ...item };
    if ('from' in result) result.from = read(result.from);
    if ('register' in result) result.register = read(result.register);
    if ('equals' in result && typeof result.equals === 'number') result.equals = read(result.equals);
    if ('into' in result) {
      if (result.into === FRESH) result.into = OLD + index;
      written.push(result.into);
    }
    return result;
  });
}

export function build(program: readonly Act[]): Tape {
  const tape = new Tape();
  const registers = new Map<number, Reg>();
  const cells = Array.from({ length: CELLS }, () => tape.space(8));
  const open: { at: number; label: Label }[] = [];
  const reg = (n: number) => registers.get(n) ?? registers.set(n, tape.reg()).get(n)!;
  const where = (at: Place) => ('slot' in at ? tape.slot(at.slot) : cells[at.cell]!);
  program.forEach((item, index) => {
    for (const { label } of open.filter(({ at }) => at === index)) tape.place(label);
    tape.step(`act[${index}]`, item.act);
    const target = (count: number) => {
      const label = tape.label(`after${index}`);
      open.push({ at: Math.min(index + 1 + count, program.length), label });
      return label;
    };
    if (item.act === 'set') tape.set(item.value, reg(item.into));
    else if (item.act === 'copy') tape.set(reg(item.from), reg(item.into));
    else if (item.act === 'store') tape.store(reg(item.from), where(item.place), item.width);
    else if (item.act === 'load') tape.load(where(item.place), item.width, reg(item.into));
    else if (item.act === 'digits')
      tape.store(tape.decimal(reg(item.from), tape.space(20)), tape.slot(item.slot), 8);
    else if (item.act === 'fail-call')
      tape.syscall('close', [-1], { into: reg(item.into), on: { [item.on]: target(item.skip) } });
    else {
      const equals = typeof item.equals === 'number' ? reg(item.equals) : item.equals;
      tape.jumpIf(reg(item.register), item.mask, equals, target(item.skip));
    }
  });
  for (const { label } of open.filter(({ at }) => at === program.length)) tape.place(label);
  tape.halt(0);
  return tape;
}

/** The slots after the program. */
export function expectedSlots(program: readonly Act[]): bigint[] {
  const registers = Array.from({ length: OLD + program.length }, () => 0n);
  const slots = Array.from({ length: OUTPUTS }, () => 0n);
  const cells = Array.from({ length: CELLS }, () => 0n);
  const low = 0xffff_ffffn;
  for (let index = 0; index < program.length; index++) {
    const item = program[index]!;
    if (item.act === 'set') registers[item.into] = BigInt.asUintN(64, item.value);
    else if (item.act === 'copy') registers[item.into] = registers[item.from]!;
    else if (item.act === 'store' || item.act === 'load') {
      const [memory, at] = 'slot' in item.place ? [slots, item.place.slot] : [cells, item.place.cell];
      const old = memory[at]!;
      if (item.act === 'load') registers[item.into] = item.width === 8 ? old : old & low;
      else {
        const stored = registers[item.from]!;
        memory[at] = item.width === 8 ? stored : (old & ~low) | (stored & low);
      }
    } else if (item.act === 'digits') slots[item.slot] = BigInt(registers[item.from]!.toString().length);
    else if (item.act === 'fail-call') {
      registers[item.into] = BigInt.asUintN(64, -BigInt(errnoNumbers.EBADF));
      index += item.skip;
    } else {
      const equals =
        typeof item.equals === 'number' ? registers[item.equals]! : BigInt.asUintN(64, item.equals);
      if ((registers[item.register]! & BigInt.asUintN(64, item.mask)) === equals) index += item.skip;
    }
  }
  return slots;
}
