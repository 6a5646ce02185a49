/**
 * Gives the registers of a program their numbers. Jumps only go forward, so a register is alive from the first
 * instruction that writes it to the last that reads it, and its number is free again after that.
 */
import { SCRATCH } from './format.ts';
import type { Instruction } from './program.ts';
import { type Reg, TapeError } from './refs.ts';

interface Life {
  reg: Reg;
  /** First write; -1 for a register that may be read while it is still zero. */
  start: number;
  end: number;
  read: boolean;
  /** From this instruction on a jump may have gone around the write. */
  unsureFrom: number;
}

/**
 * Number of each register by its id; SCRATCH for those that are never read (their writes go there).
 * Throws TapeError when more than 255 are alive at once.
 */
export function numberRegisters(program: readonly Instruction[], count: number): Uint8Array {
  const lives = measure(program, count).filter((life) => life?.read === true) as Life[];
  lives.sort((a, b) => a.start - b.start || a.reg.id - b.reg.id);
  const numbers = new Uint8Array(count).fill(SCRATCH);
  const busyUntil: number[] = [];
  for (const { reg, start, end } of lives) {
    // Arguments are read before the result is written, so a life may begin where another one ends. One that begins
    // at -1 expects zeros: it comes first here, so nobody has used its number before.
    let number = busyUntil.findIndex((until) => until <= start);
    if (number === -1) number = busyUntil.length;
    if (number >= SCRATCH)
      throw new TapeError(`more than ${SCRATCH} registers are alive at instruction ${start}`);
    busyUntil[number] = end;
    numbers[reg.id] = number;
  }
  return numbers;
}

/** By register id. */
function measure(program: readonly Instruction[], count: number): (Life | undefined)[] {
  const lives: (Life | undefined)[] = new Array(count).fill(undefined);
  /** Targets of jumps that have been passed and whose labels have not. */
  const open: number[] = [];
  for (let pc = 0; pc < program.length; pc++) {
    const { reads, dst, target: label } = program[pc]!;
    if (open.length > 0) closePassed(open, pc);
    for (const reg of reads) {
      const life = lives[reg.id];
      if (life === undefined) lives[reg.id] = { reg, start: -1, end: pc, read: true, unsureFrom: 0 };
      else {
        life.end = pc;
        life.read = true;
        if (pc >= life.unsureFrom) life.start = -1;
      }
    }
    if (dst !== undefined) {
      const life = lives[dst.id];
      const unsureFrom = nearest(open);
      if (life === undefined) lives[dst.id] = { reg: dst, start: pc, end: pc, read: false, unsureFrom };
      else {
        life.end = pc;
        if (pc >= life.unsureFrom) life.unsureFrom = unsureFrom;
      }
    }
    const target = label?.target;
    if (target !== undefined) open.push(target);
  }
  return lives;
}

function closePassed(open: number[], pc: number): void {
  for (let index = open.length - 1; index >= 0; index--) if (open[index]! <= pc) open.splice(index, 1);
}

function nearest(open: readonly number[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (const target of open) if (target < least) least = target;
  return least;
}
