/** Turns a program into the bytes that the player reads (format.ts). */
import { type Arch, arches } from '../linux/arch.ts';
import type { DataSegment } from './data.ts';
import {
  archNumbers,
  Field,
  HEADER_BYTES,
  INSTRUCTION_BYTES,
  Kind,
  MAGIC,
  MAX_ALIGN,
  MAX_IMAGE,
} from './format.ts';
import type { Instruction } from './program.ts';
import { DataRef, type Label, Reg, SharedRef, TapeError } from './refs.ts';
import { numberRegisters } from './registers.ts';

/** A stretch of instructions with one purpose. */
export interface Step {
  /** As the instructions carry it; the first is 1. 0 means before the first step. */
  id: number;
  /** Field of config.json that asked for it; '' where nobody did. */
  path: string;
  does: string;
}

export interface AssembledTape {
  /** What the player maps after the shared page. */
  image: Uint8Array;
  steps: readonly Step[];
  arch: Arch;
  /** Names of jump targets by instruction number, for readers. */
  labels?: ReadonlyMap<number, string>;
}

export interface Unassembled {
  arch: Arch;
  program: readonly Instruction[];
  data: DataSegment;
  steps: readonly Step[];
  labels: readonly Label[];
  /** How many registers the builder gave out. */
  registers: number;
}

const INSTRUCTION_WORDS = INSTRUCTION_BYTES / 4;

/** Throws TapeError: a jump to a label that was never placed, too many registers, or more than MAX_IMAGE bytes. */
export function assemble({ arch, program, data, steps, labels, registers }: Unassembled): AssembledTape {
  const codeOffset = align(HEADER_BYTES);
  const dataOffset = align(codeOffset + program.length * INSTRUCTION_BYTES);
  const relocationsOffset = align(dataOffset + data.length);
  const total = relocationsOffset + data.pointers.length * 4;
  if (total > MAX_IMAGE)
    throw new TapeError(`overflow: ${total} bytes, at most ${MAX_IMAGE} are possible`, 'resource-exhausted');

  // Not from Buffer's pool: the words below must be aligned.
  const image = Buffer.from(new ArrayBuffer(total));
  image.write(MAGIC, 0, 'latin1');
  const header = [
    archNumbers[arch],
    program.length,
    codeOffset,
    dataOffset,
    data.length,
    relocationsOffset,
    data.pointers.length,
  ];
  header.forEach((value, index) => {
    image.writeUInt32LE(value, 8 + index * 4);
  });

  const numbers = numberRegisters(program, registers);
  const base = data.stringsBase;
  const words = new Uint32Array(
    image.buffer,
    image.byteOffset + codeOffset,
    (program.length * INSTRUCTION_BYTES) / 4,
  );
  for (let index = 0; index < program.length; index++) {
    writeInstruction(words, index * INSTRUCTION_WORDS, program[index]!, index, numbers, base);
  }
  data.write(image.subarray(dataOffset, dataOffset + data.length));
  data.pointers.forEach(({ at }, index) => {
    image.writeUInt32LE(data.offsetOf(at), relocationsOffset + index * 4);
  });
  return { image, steps, arch, labels: labelNames(labels) };
}

/** 32-bit words are several times faster than Buffer's checked writes, and a container's tape has hundreds of instructions. */
function writeInstruction(
  words: Uint32Array,
  at: number,
  instruction: Instruction,
  index: number,
  numbers: Uint8Array,
  stringsBase: number,
): void {
  const { op, dst, a, b = 0, args, step, target, number } = instruction;
  let kinds = 0;
  for (let position = 0; position < args.length; position++) {
    const arg = args[position]!;
    const low = at + (Field.ARGS >> 2) + position * 2;
    if (typeof arg === 'number') {
      words[low] = arg >>> 0;
      words[low + 1] = Math.floor(arg / 2 ** 32) >>> 0;
      kinds |= Kind.IMMEDIATE << (2 * position);
    } else if (arg instanceof DataRef) {
      words[low] = arg.section === 'data' ? arg.offset : stringsBase + arg.offset;
      kinds |= Kind.DATA << (2 * position);
    } else if (arg instanceof Reg) {
      words[low] = numbers[arg.id]!;
      kinds |= Kind.REGISTER << (2 * position);
    } else if (arg instanceof SharedRef) {
      words[low] = arg.offset;
      kinds |= Kind.SHARED << (2 * position);
    } else {
      words[low] = Number(arg & 0xffff_ffffn);
      words[low + 1] = Number((arg >> 32n) & 0xffff_ffffn);
      kinds |= Kind.IMMEDIATE << (2 * position);
    }
  }
  const result = dst === undefined ? 0 : numbers[dst.id]!;
  const subject = a === undefined ? 0 : numbers[a.id]!;
  // Both architectures are little endian: op, dst, a, b; kinds, nargs; step; target.
  words[at] = op | (result << 8) | (subject << 16) | (b << 24);
  words[at + 1] = kinds | (args.length << 16);
  words[at + 2] = step;
  words[at + 3] = target === undefined ? (number ?? 0) : targetOf(target, index);
}

function targetOf(label: Label, from: number): number {
  if (label.target === undefined) throw new TapeError(`label ${label.name} is used but never placed`);
  if (label.target <= from) throw new TapeError(`backward jump to ${label.name}: tapes only go forward`);
  return label.target;
}

/** Several labels may mark one place. */
function labelNames(labels: readonly Label[]): Map<number, string> {
  const names = new Map<number, string>();
  for (const { name, target } of labels) {
    if (target === undefined) continue;
    const other = names.get(target);
    names.set(target, other === undefined ? name : `${other}, ${name}`);
  }
  return names;
}

function align(offset: number): number {
  return Math.ceil(offset / MAX_ALIGN) * MAX_ALIGN;
}

/** The architecture of a header's number. */
export function archOf(number: number): Arch | undefined {
  return arches.find((arch) => archNumbers[arch] === number);
}
