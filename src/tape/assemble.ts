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
  SCRATCH,
} from './format.ts';
import type { Instruction, Operand } from './program.ts';
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
}

/** Throws TapeError: a jump to a label that was never placed, too many registers, or more than MAX_IMAGE bytes. */
export function assemble({ arch, program, data, steps, labels }: Unassembled): AssembledTape {
  const codeOffset = align(HEADER_BYTES);
  const dataOffset = align(codeOffset + program.length * INSTRUCTION_BYTES);
  const relocationsOffset = align(dataOffset + data.length);
  const total = relocationsOffset + data.pointers.length * 4;
  if (total > MAX_IMAGE)
    throw new TapeError(`overflow: ${total} bytes, at most ${MAX_IMAGE} are possible`, 'resource-exhausted');

  const image = Buffer.alloc(total);
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

  const registers = numberRegisters(program);
  program.forEach((instruction, index) => {
    const at = codeOffset + index * INSTRUCTION_BYTES;
    writeInstruction(image.subarray(at, at + INSTRUCTION_BYTES), instruction, index, registers, data);
  });
  data.write(image.subarray(dataOffset, dataOffset + data.length));
  data.pointers.forEach(({ at }, index) => {
    image.writeUInt32LE(data.offsetOf(at), relocationsOffset + index * 4);
  });
  return { image, steps, arch, labels: labelNames(labels) };
}

function writeInstruction(
  into: Buffer,
  instruction: Instruction,
  index: number,
  registers: ReadonlyMap<number, number>,
  data: DataSegment,
): void {
  const { op, dst, a, b = 0, args, step, target, number } = instruction;
  let kinds = 0;
  args.forEach((arg, position) => {
    kinds |= kindOf(arg) << (2 * position);
    writeOperand(into, Field.ARGS + position * 8, arg, registers, data);
  });
  into[Field.OP] = op;
  into[Field.DST] = dst === undefined ? 0 : (registers.get(dst.id) ?? SCRATCH);
  into[Field.A] = a === undefined ? 0 : (registers.get(a.id) ?? SCRATCH);
  into[Field.B] = b;
  into.writeUInt16LE(kinds, Field.KINDS);
  into.writeUInt16LE(args.length, Field.NARGS);
  into.writeUInt32LE(step, Field.STEP);
  into.writeUInt32LE(target === undefined ? (number ?? 0) : targetOf(target, index), Field.TARGET);
}

function targetOf(label: Label, from: number): number {
  if (label.target === undefined) throw new TapeError(`label ${label.name} is used but never placed`);
  if (label.target <= from) throw new TapeError(`backward jump to ${label.name}: tapes only go forward`);
  return label.target;
}

function kindOf(arg: Operand): number {
  if (arg instanceof Reg) return Kind.REGISTER;
  if (arg instanceof DataRef) return Kind.DATA;
  if (arg instanceof SharedRef) return Kind.SHARED;
  return Kind.IMMEDIATE;
}

function writeOperand(
  into: Buffer,
  at: number,
  arg: Operand,
  registers: ReadonlyMap<number, number>,
  data: DataSegment,
): void {
  if (typeof arg === 'number') {
    // Two 32-bit halves are several times faster than a BigInt, and most of a tape is small numbers.
    into.writeUInt32LE(arg >>> 0, at);
    into.writeUInt32LE(Math.floor(arg / 2 ** 32) >>> 0, at + 4);
  } else if (typeof arg === 'bigint') into.writeBigUInt64LE(BigInt.asUintN(64, arg), at);
  else if (arg instanceof Reg) into.writeUInt32LE(registers.get(arg.id) ?? SCRATCH, at);
  else if (arg instanceof DataRef) into.writeUInt32LE(data.offsetOf(arg), at);
  else into.writeUInt32LE(arg.offset, at);
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
