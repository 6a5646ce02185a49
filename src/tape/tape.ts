/**
 * src/tape: a tape is a straight program of system calls as data. Here it is built, assembled, disassembled and its
 * outcome explained. Nothing here knows containers or config files, and nothing here makes a system call.
 * This file: the builder. It writes the words of the instructions at once (code.ts); a create has about a thousand of them.
 */
import { type Arch, currentArch } from '../linux/arch.ts';
import { type ErrnoName, errnoNumbers } from '../linux/errno.ts';
import type { EncodedStruct } from '../linux/structs.ts';
import { type SyscallName, syscallNumbersOf } from '../linux/syscalls.ts';
import { type AssembledTape, assemble, type Step } from './assemble.ts';
import type { Code } from './code.ts';
import type { DataSegment } from './data.ts';
import { CLOSED, type Draft, giveBack, takeDraft } from './draft.ts';
import { DECIMAL_BYTES, Field, Kind, LANES, MAX_ARGS, Op, SCRATCH, SLOTS, SLOTS_OFFSET } from './format.ts';
import { DataRef, Label, Reg, SharedRef, TapeError } from './refs.ts';

/** A string becomes NUL-terminated text in the data; numbers may be negative (two's complement). */
export type Arg = number | bigint | Reg | DataRef | SharedRef | string;

export interface SyscallOptions {
  /** Takes the result instead of a new register. */
  into?: Reg;
  /** Where to go on which failure; `any` is asked last. Without a match the play fails with this step. */
  on?: Partial<Record<ErrnoName | 'any', Label>>;
}

const ARGS = Field.ARGS >> 2;
/** No number has a bit under it. */
const NO_MASK: readonly Arg[] = [0, 0];

/**
 * Builds a tape. Methods append one instruction each, in the order of the calls, unless they only make an operand.
 * All errors are TapeError: they are mistakes of the calling code.
 */
export class Tape {
  readonly arch: Arch;
  private readonly numbers: ReadonlyMap<SyscallName, number>;
  private draft: Draft;
  private code: Code;
  private data: DataSegment;
  private steps: Step[] = [];
  private readonly labels: Label[] = [];
  private registers = 0;

  constructor(arch: Arch = currentArch()) {
    this.draft = takeDraft();
    this.arch = arch;
    this.numbers = syscallNumbersOf(arch);
    this.code = this.draft.code;
    this.data = this.draft.data;
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
  syscall(name: SyscallName, args: readonly Arg[], options?: SyscallOptions): Reg {
    const dst = options?.into ?? this.reg();
    const at = this.call(name, args);
    this.code.hole(4 * at + Field.DST, dst.id);
    if (options?.on !== undefined) this.handle(options.on);
    return dst;
  }

  /** A system call whose result is of no use: the same, and cheaper. */
  perform(name: SyscallName, args: readonly Arg[], on?: SyscallOptions['on']): void {
    const at = this.call(name, args);
    this.code.words[at] = Op.SYSCALL | (SCRATCH << 8);
    if (on !== undefined) this.handle(on);
  }

  /** A register that is zero until something is put into it. No instruction. */
  reg(name?: string): Reg {
    return new Reg(this.registers++, name);
  }

  /** Puts a number, an address or another register's value into a register. */
  set(value: Arg, into: Reg = this.reg()): Reg {
    const at = this.add(Op.SET, [value]);
    this.code.hole(4 * at + Field.DST, into.id);
    return into;
  }

  /** A target for jumps. No instruction; the name is for readers. */
  label(name: string): Label {
    const label = new Label(this.labels.length, name);
    this.labels.push(label);
    return label;
  }

  /** The next instruction is the label's. Jumps to it must come before this. */
  place(label: Label): void {
    if (label.target !== undefined) throw new TapeError(`label ${label.name} is placed twice`);
    label.target = this.code.count;
  }

  jump(label: Label): void {
    this.jumpTo(label, this.add(Op.JUMP_MASK, NO_MASK));
  }

  /** Jumps if `(reg & mask) == value`. */
  jumpIf(reg: Reg, mask: number | bigint | Reg, value: number | bigint | Reg, label: Label): void {
    const at = this.add(Op.JUMP_MASK, [mask, value]);
    this.code.hole(4 * at + Field.A, reg.id);
    this.jumpTo(label, at);
  }

  jumpIfEqual(reg: Reg, value: number | bigint | Reg, label: Label): void {
    this.jumpIf(reg, -1, value, label);
  }

  /** Writes the low `width` bytes of a register. */
  store(reg: Reg, to: DataRef | SharedRef, width: 4 | 8): void {
    room(to, width);
    const at = this.add(Op.STORE, [to], width);
    this.code.hole(4 * at + Field.A, reg.id);
  }

  /** Reads `width` bytes, zero-extended. */
  load(from: DataRef | SharedRef, width: 4 | 8, into: Reg = this.reg()): Reg {
    room(from, width);
    const at = this.add(Op.LOAD, [from], width);
    this.code.hole(4 * at + Field.DST, into.id);
    return into;
  }

  /** Writes a register as decimal text (unsigned, up to 20 bytes, no terminator); the register is the text's length. */
  decimal(reg: Reg, to: DataRef): Reg {
    room(to, DECIMAL_BYTES);
    const length = this.reg();
    const at = this.add(Op.DECIMAL, [to]);
    this.code.hole(4 * at + Field.A, reg.id);
    this.code.hole(4 * at + Field.DST, length.id);
    return length;
  }

  /** Ends this process with this exit code: success of its lane. */
  halt(code: number): void {
    if (!Number.isInteger(code) || code < 0 || code > 255) throw new TapeError(`exit code ${code}`);
    this.add(Op.HALT, [code]);
  }

  /** From here on this process reports in lane `n` (0-3). The first process begins in lane 0; clones take higher ones. */
  lane(n: number): void {
    if (!Number.isInteger(n) || n < 0 || n >= LANES)
      throw new TapeError(`lane ${n}; there are 0 to ${LANES - 1}`);
    this.add(Op.LANE, [n]);
  }

  /** The play fails here, as if a call had failed with this errno. */
  fail(errno: ErrnoName): void {
    this.add(Op.FAIL, [errnoNumbers[errno]]);
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
  struct({ bytes, pointers }: EncodedStruct<DataRef>): DataRef {
    const ref = this.bytes(bytes);
    if (pointers.length > 0) for (const { offset, to } of pointers) this.data.point(ref.at(offset, 8), to);
    return ref;
  }

  /** Result slot 0-111 of the shared page: 8 bytes that come back with the play's result. Slot 0 is the init's pid. */
  slot(n: number): SharedRef {
    if (!Number.isInteger(n) || n < 0 || n >= SLOTS)
      throw new TapeError(`slot ${n}; there are 0 to ${SLOTS - 1}`);
    return new SharedRef(SLOTS_OFFSET + n * 8);
  }

  /** The finished tape. A program that runs off its end halts with 0. Nothing can be added to it any more. */
  assemble(): AssembledTape {
    const { arch, draft, code, steps, labels, registers } = this;
    const end = code.count;
    const endLabel = labels.some(({ target }) => target === end);
    if (endLabel || (code.lastOp !== Op.HALT && code.lastOp !== Op.FAIL)) this.halt(0);
    const assembled = assemble({ arch, draft, steps, labels, registers });
    this.draft = CLOSED;
    this.code = CLOSED.code;
    this.data = CLOSED.data;
    this.steps = [];
    giveBack(draft);
    return assembled;
  }

  private call(name: SyscallName, args: readonly Arg[]): number {
    if (args.length > MAX_ARGS) throw new TapeError(`${name} with ${args.length} arguments`);
    const at = this.add(Op.SYSCALL, args);
    this.code.words[at + (Field.TARGET >> 2)] = this.numbers.get(name)!;
    return at;
  }

  /**
   * Appends an instruction, without what is only known to the caller; returns its first word. One function for what a thousand
   * instructions need: in a daemon's first minutes every call of another costs more than what it does.
   */
  private add(op: number, args: readonly Arg[], width = 0): number {
    const { code } = this;
    const at = code.next();
    const { words } = code;
    const { length } = args;
    let kinds = 0;
    for (let index = 0, word = at + ARGS; index < length; index++, word += 2) {
      const arg = args[index]!;
      if (typeof arg === 'number') {
        // Kind.IMMEDIATE is 0. Only the low word of a number that has no more is written: all are zero before.
        const low = arg | 0;
        words[word] = low;
        if (low !== arg) words[word + 1] = highWord(arg);
        else if (low < 0) words[word + 1] = -1;
      } else if (typeof arg === 'string') {
        words[word] = this.data.text(arg);
        code.text(word);
        kinds |= Kind.DATA << (2 * index);
      } else if (typeof arg === 'bigint') {
        words[word] = Number(BigInt.asIntN(32, arg));
        words[word + 1] = Number(BigInt.asIntN(32, arg >> 32n));
      } else {
        kinds |= arg.kind << (2 * index);
        if (arg.kind === Kind.REGISTER) code.hole(4 * word, arg.id);
        else {
          words[word] = arg.offset;
          if (arg.kind === Kind.DATA && arg.section === 'strings') code.text(word);
        }
      }
    }
    // op, dst, a, b; kinds, nargs; step.
    words[at] = op | (width << 24);
    words[at + (Field.KINDS >> 2)] = kinds | (length << 16);
    words[at + (Field.STEP >> 2)] = this.steps.length;
    return at;
  }

  private handle(on: NonNullable<SyscallOptions['on']>): void {
    for (const errno in on) {
      const target = on[errno as ErrnoName | 'any'];
      if (target !== undefined && errno !== 'any') this.onErrno(errnoNumbers[errno as ErrnoName], target);
    }
    if (on.any !== undefined) this.onErrno(0, on.any);
  }

  private onErrno(errno: number, target: Label): void {
    const { code } = this;
    const at = code.next();
    const { words } = code;
    words[at] = Op.ON_ERRNO;
    words[at + (Field.KINDS >> 2)] = 1 << 16;
    words[at + (Field.STEP >> 2)] = this.steps.length;
    words[at + ARGS] = errno;
    this.jumpTo(target, at);
  }

  private jumpTo(label: Label, at: number): void {
    if (label.target !== undefined)
      throw new TapeError(`backward jump to ${label.name}: tapes only go forward`);
    this.code.hole(4 * at + Field.TARGET, label.id);
  }
}

function highWord(value: number): number {
  if (!Number.isSafeInteger(value)) throw new TapeError(`argument ${value} is not an integer`);
  return Math.floor(value / 2 ** 32);
}

function room(ref: DataRef | SharedRef, bytes: number): void {
  if (ref instanceof DataRef && ref.length < bytes)
    throw new TapeError(`${bytes} bytes do not fit into ${ref.length} bytes of data`);
}
