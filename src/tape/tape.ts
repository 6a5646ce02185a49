/**
 * src/tape: a tape is a straight program of system calls as data. Here it is built, assembled, disassembled and its
 * outcome explained. Nothing here knows containers or config files, and nothing here makes a system call.
 * This file: the builder.
 */
import { type Arch, currentArch } from '../linux/arch.ts';
import { type ErrnoName, errnoNumbers } from '../linux/errno.ts';
import type { EncodedStruct } from '../linux/structs.ts';
import { type SyscallName, syscallNumber } from '../linux/syscalls.ts';
import { type AssembledTape, assemble, type Step } from './assemble.ts';
import { DataSegment } from './data.ts';
import { DECIMAL_BYTES, LANES, MAX_ARGS, Op, SLOTS, SLOTS_OFFSET } from './format.ts';
import type { Instruction, Operand } from './program.ts';
import { DataRef, Label, Reg, SharedRef, TapeError } from './refs.ts';

/** A string becomes NUL-terminated text in the data; numbers may be negative (two's complement). */
export type Arg = number | bigint | Reg | DataRef | SharedRef | string;

export interface SyscallOptions {
  /** Takes the result instead of a new register. */
  into?: Reg;
  /** Where to go on which failure; `any` is asked last. Without a match the play fails with this step. */
  on?: Partial<Record<ErrnoName | 'any', Label>>;
}

type InstructionParts = Omit<Instruction, 'step' | 'reads'>;

/**
 * Builds a tape. Methods append one instruction each, in the order of the calls, unless they only make an operand.
 * All errors are TapeError: they are mistakes of the calling code.
 */
export class Tape {
  readonly arch: Arch;
  private readonly program: Instruction[] = [];
  private readonly data = new DataSegment();
  private readonly steps: Step[] = [];
  private readonly labels: Label[] = [];
  private registers = 0;

  constructor(arch: Arch = currentArch()) {
    this.arch = arch;
  }

  /**
   * What follows belongs to this step.
   * @param path the field of config.json that asked for it (`mounts[3]`), or '' where nobody did
   * @param does a short sentence: `mount tmpfs on /dev`
   */
  step(path: string, does: string): void {
    this.steps.push({ id: this.steps.length + 1, path, does });
  }

  /** A system call. Its result is the raw one: -errno on failure, which only a path from `on` gets to see. */
  syscall(name: SyscallName, args: readonly Arg[], options: SyscallOptions = {}): Reg {
    if (args.length > MAX_ARGS) throw new TapeError(`${name} with ${args.length} arguments`);
    const dst = options.into ?? this.reg();
    this.add({
      op: Op.SYSCALL,
      dst,
      args: args.map((arg) => this.operand(arg)),
      number: syscallNumber(name, this.arch),
    });
    if (options.on !== undefined) this.handle(options.on);
    return dst;
  }

  /** A register that is zero until something is put into it. No instruction. */
  reg(name?: string): Reg {
    return new Reg(this.registers++, name);
  }

  /** Puts a number, an address or another register's value into a register. */
  set(value: Arg, into: Reg = this.reg()): Reg {
    this.add({ op: Op.SET, dst: into, args: [this.operand(value)] });
    return into;
  }

  /** A target for jumps. No instruction; the name is for readers. */
  label(name: string): Label {
    const label = new Label(name);
    this.labels.push(label);
    return label;
  }

  /** The next instruction is the label's. Jumps to it must come before this. */
  place(label: Label): void {
    if (label.target !== undefined) throw new TapeError(`label ${label.name} is placed twice`);
    label.target = this.program.length;
  }

  jump(label: Label): void {
    this.jumpTo(label, { op: Op.JUMP_MASK, args: [0, 0], target: label });
  }

  /** Jumps if `(reg & mask) == value`. */
  jumpIf(reg: Reg, mask: number | bigint | Reg, value: number | bigint | Reg, label: Label): void {
    this.jumpTo(label, { op: Op.JUMP_MASK, a: reg, args: [mask, value], target: label });
  }

  jumpIfEqual(reg: Reg, value: number | bigint | Reg, label: Label): void {
    this.jumpIf(reg, -1, value, label);
  }

  /** Writes the low `width` bytes of a register. */
  store(reg: Reg, to: DataRef | SharedRef, width: 4 | 8): void {
    this.room(to, width);
    this.add({ op: Op.STORE, a: reg, b: width, args: [to] });
  }

  /** Reads `width` bytes, zero-extended. */
  load(from: DataRef | SharedRef, width: 4 | 8, into: Reg = this.reg()): Reg {
    this.room(from, width);
    this.add({ op: Op.LOAD, dst: into, b: width, args: [from] });
    return into;
  }

  /** Writes a register as decimal text (unsigned, up to 20 bytes, no terminator); the register is the text's length. */
  decimal(reg: Reg, to: DataRef): Reg {
    this.room(to, DECIMAL_BYTES);
    const length = this.reg();
    this.add({ op: Op.DECIMAL, dst: length, a: reg, args: [to] });
    return length;
  }

  /** Ends this process with this exit code: success of its lane. */
  halt(code: number): void {
    if (!Number.isInteger(code) || code < 0 || code > 255) throw new TapeError(`exit code ${code}`);
    this.add({ op: Op.HALT, args: [code] });
  }

  /** From here on this process reports in lane `n` (0-3). The first process begins in lane 0; clones take higher ones. */
  lane(n: number): void {
    if (!Number.isInteger(n) || n < 0 || n >= LANES)
      throw new TapeError(`lane ${n}; there are 0 to ${LANES - 1}`);
    this.add({ op: Op.LANE, args: [n] });
  }

  /** The play fails here, as if a call had failed with this errno. */
  fail(errno: ErrnoName): void {
    this.add({ op: Op.FAIL, args: [errnoNumbers[errno]] });
  }

  /** NUL-terminated text. Equal texts share one place: never let anything write to it. */
  cstr(text: string): DataRef {
    return this.data.cstr(text);
  }

  /** A copy of these bytes; aligned to 8 unless told otherwise. */
  bytes(data: Uint8Array, align?: number): DataRef {
    return this.data.bytes(data, align);
  }

  /** Zero bytes, for results that the kernel or the tape writes. */
  space(length: number, align?: number): DataRef {
    return this.data.space(length, align);
  }

  /** An array of addresses; null is NULL. Terminators are the caller's: `pointers([...args, null])`. */
  pointers(refs: readonly (DataRef | null)[]): DataRef {
    const array = this.space(refs.length * 8);
    refs.forEach((ref, index) => {
      if (ref !== null) this.data.point(array.at(index * 8, 8), ref);
    });
    return array;
  }

  /** A kernel struct from src/linux/structs*.ts, its pointers included. */
  struct(encoded: EncodedStruct<DataRef>): DataRef {
    const ref = this.bytes(encoded.bytes);
    for (const { offset, to } of encoded.pointers) this.data.point(ref.at(offset, 8), to);
    return ref;
  }

  /** Result slot 0-111 of the shared page: 8 bytes that come back with the play's result. Slot 0 is the init's pid. */
  slot(n: number): SharedRef {
    if (!Number.isInteger(n) || n < 0 || n >= SLOTS)
      throw new TapeError(`slot ${n}; there are 0 to ${SLOTS - 1}`);
    return new SharedRef(SLOTS_OFFSET + n * 8);
  }

  /** The finished tape. A program that runs off its end halts with 0. */
  assemble(): AssembledTape {
    const program = [...this.program];
    const last = program.at(-1)?.op;
    const endLabel = this.labels.some((label) => label.target === program.length);
    if (endLabel || (last !== Op.HALT && last !== Op.FAIL))
      program.push({ op: Op.HALT, step: this.steps.length, args: [0], reads: [] });
    return assemble({
      arch: this.arch,
      program,
      data: this.data,
      steps: [...this.steps],
      labels: this.labels,
      registers: this.registers,
    });
  }

  /** Every instruction has the same shape: thousands are made for each container, and V8 is quick with one shape. */
  private add(parts: InstructionParts): void {
    const { args, a } = parts;
    const reads: Reg[] = [];
    for (const arg of args) if (arg instanceof Reg) reads.push(arg);
    if (a !== undefined) reads.push(a);
    this.program.push({
      op: parts.op,
      step: this.steps.length,
      dst: parts.dst,
      a,
      b: parts.b,
      args,
      reads,
      target: parts.target,
      number: parts.number,
    });
  }

  private handle(on: NonNullable<SyscallOptions['on']>): void {
    for (const errno in on) {
      const target = on[errno as ErrnoName | 'any'];
      if (target !== undefined && errno !== 'any') this.onErrno(errnoNumbers[errno as ErrnoName], target);
    }
    if (on.any !== undefined) this.onErrno(0, on.any);
  }

  private onErrno(errno: number, target: Label): void {
    this.jumpTo(target, { op: Op.ON_ERRNO, args: [errno], target });
  }

  private jumpTo(label: Label, instruction: InstructionParts): void {
    if (label.target !== undefined)
      throw new TapeError(`backward jump to ${label.name}: tapes only go forward`);
    this.add(instruction);
  }

  private operand(arg: Arg): Operand {
    if (typeof arg === 'number' && !Number.isSafeInteger(arg))
      throw new TapeError(`argument ${arg} is not an integer`);
    return typeof arg === 'string' ? this.cstr(arg) : arg;
  }

  private room(ref: DataRef | SharedRef, bytes: number): void {
    if (ref instanceof DataRef && ref.length < bytes)
      throw new TapeError(`${bytes} bytes do not fit into ${ref.length} bytes of data`);
  }
}
