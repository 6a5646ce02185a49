/**
 * Fills the holes of a program: the targets of its jumps, and the numbers of its registers. Jumps only go forward, so a register
 * is alive from the first instruction that writes it to the last that reads it, and its number is free again after that.
 */
import { type Code, INSTRUCTION_WORDS } from './code.ts';
import { Field, INSTRUCTION_BYTES, SCRATCH } from './format.ts';
import { type Label, TapeError } from './refs.ts';

/** Instruction 0 is 2 in `starts`: 0 is a register that nobody has used yet, and */
const FIRST = 2;
/** one that may be read while it is still zero: it lives from before the first instruction. */
const ALWAYS = 1;
const NEVER = 0x7fff_ffff;
/** A byte of the code is a field of an instruction. */
const SHIFT = 31 - Math.clz32(INSTRUCTION_BYTES);
const FIELD = INSTRUCTION_BYTES - 1;

/** What is known of each register, by its id. The arrays are used again and again. */
export class Lives {
  /** First write: FIRST + instruction. */
  starts = new Int32Array(0);
  /** Last use: 1 + instruction; negative as long as it has only been written. */
  ends = new Int32Array(0);
  /** From this instruction on a jump may have gone around the write. */
  unsureFrom = new Int32Array(0);
  /** By number: end of the life that has it. */
  readonly busyUntil = new Int32Array(SCRATCH + 1);

  reset(registers: number): void {
    if (this.starts.length >= registers) {
      this.starts.fill(0, 0, registers);
      this.ends.fill(0, 0, registers);
      this.unsureFrom.fill(0, 0, registers);
      return;
    }
    this.starts = new Int32Array(2 * registers);
    this.ends = new Int32Array(2 * registers);
    this.unsureFrom = new Int32Array(2 * registers);
  }
}

/**
 * Registers that are never read get SCRATCH: their writes go there.
 * Throws TapeError: a jump to a label that was never placed, or more than 255 registers alive at once.
 * @param words those of the code in the image, and `bytes` the same
 */
export function fillHoles(
  { code, lives }: { code: Code; lives: Lives },
  registers: number,
  labels: readonly Label[],
  words: Int32Array,
  bytes: Uint8Array,
): void {
  lives.reset(registers);
  measure(code, lives, labels, words);
  const { starts, ends, busyUntil } = lives;
  const numbers = lives.unsureFrom;
  let used = 0;
  // These expect zeros: they come first, so that nobody has used their numbers before.
  for (let id = 0; id < registers; id++) {
    if (starts[id] === ALWAYS && ends[id]! > 0) {
      if (used >= SCRATCH) throw tooMany(0);
      busyUntil[used] = ends[id]!;
      numbers[id] = used++;
    }
  }
  const { holes, holesEnd } = code;
  for (let index = 0; index < holesEnd; index += 2) {
    const place = holes[index]!;
    const field = place & FIELD;
    if (field === Field.TARGET) continue;
    const id = holes[index + 1]!;
    if (ends[id]! < 0) {
      bytes[place] = SCRATCH;
      continue;
    }
    const pc = place >> SHIFT;
    if (field === Field.DST && starts[id] === FIRST + pc) {
      let number = 0;
      // Arguments are read before the result is written, so a life may begin where another one ends.
      while (number < used && busyUntil[number]! > pc + 1) number++;
      if (number === used) used++;
      if (number >= SCRATCH) throw tooMany(pc);
      busyUntil[number] = ends[id]!;
      numbers[id] = number;
    }
    bytes[place] = numbers[id]!;
  }
}

function tooMany(pc: number): TapeError {
  return new TapeError(`more than ${SCRATCH} registers are alive at instruction ${pc}`);
}

/** Also writes the targets of the jumps. */
function measure(code: Code, lives: Lives, labels: readonly Label[], words: Int32Array): void {
  const { starts, ends, unsureFrom } = lives;
  const seen = new Uint8Array(labels.length);
  /** Targets of jumps that have been passed and whose labels have not, and the nearest of them. */
  const open: number[] = [];
  let nearest = NEVER;
  const { holes, holesEnd } = code;
  for (let index = 0; index < holesEnd; index += 2) {
    const place = holes[index]!;
    const id = holes[index + 1]!;
    const field = place & FIELD;
    const pc = place >> SHIFT;
    if (pc >= nearest) nearest = closePassed(open, pc);
    if (field === Field.TARGET) {
      const target = targetOf(labels[id]!, pc);
      words[pc * INSTRUCTION_WORDS + (Field.TARGET >> 2)] = target;
      if (seen[id] !== 0) continue;
      seen[id] = 1;
      open.push(target);
      if (target < nearest) nearest = target;
    } else if (field === Field.DST) {
      if (starts[id] === 0) starts[id] = FIRST + pc;
      ends[id] = ends[id]! > 0 ? pc + 1 : -(pc + 1);
      if (pc >= unsureFrom[id]!) unsureFrom[id] = nearest;
    } else {
      if (starts[id] === 0 || pc >= unsureFrom[id]!) starts[id] = ALWAYS;
      ends[id] = pc + 1;
    }
  }
}

function targetOf(label: Label, from: number): number {
  if (label.target === undefined) throw new TapeError(`label ${label.name} is used but never placed`);
  if (label.target <= from) throw new TapeError(`backward jump to ${label.name}: tapes only go forward`);
  return label.target;
}

/** Returns the nearest of those that are left. */
function closePassed(open: number[], pc: number): number {
  let left = 0;
  let nearest = NEVER;
  for (let index = 0; index < open.length; index++) {
    const target = open[index]!;
    if (target <= pc) continue;
    open[left++] = target;
    if (target < nearest) nearest = target;
  }
  open.length = left;
  return nearest;
}
