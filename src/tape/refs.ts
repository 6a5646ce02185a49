/** The operands of a tape: registers, places in its data, places in the shared page, and jump targets. */
import { type ErrorKind, WherryError } from '../errors.ts';
import { Kind } from './format.ts';

/** A mistake in a program that builds a tape (`internal`), or a tape that grows too large (`resource-exhausted`). */
export class TapeError extends WherryError {
  constructor(message: string, kind: ErrorKind = 'internal') {
    super(kind, `tape: ${message}`);
  }
}

/** A 64-bit register. It is zero until something is put into it; a clone gets a copy of it. */
export class Reg {
  readonly kind = Kind.REGISTER;
  readonly id: number;
  readonly name: string | undefined;

  constructor(id: number, name?: string) {
    this.id = id;
    this.name = name;
  }
}

/** Strings lie apart from the rest, so that pages which only hold text are never written and stay shared by clones. */
export type Section = 'data' | 'strings';

/** A stretch of the tape's data; as an argument it is an address. Private to each process of the play. */
export class DataRef {
  readonly kind = Kind.DATA;
  readonly section: Section;
  readonly offset: number;
  readonly length: number;

  constructor(section: Section, offset: number, length: number) {
    this.section = section;
    this.offset = offset;
    this.length = length;
  }

  /** A field inside; by default up to the end. */
  at(offset: number, length = this.length - offset): DataRef {
    if (offset < 0 || length < 0 || offset + length > this.length)
      throw new TapeError(`field ${offset}+${length} lies outside of ${this.length} bytes of data`);
    return new DataRef(this.section, this.offset + offset, length);
  }
}

/** A place in the shared page: every process of the play sees it, and so does who ordered the play. */
export class SharedRef {
  readonly kind = Kind.SHARED;
  readonly offset: number;

  constructor(offset: number) {
    this.offset = offset;
  }
}

/** Where a jump goes: an instruction that comes later. */
export class Label {
  /** Of its tape. */
  readonly id: number;
  readonly name: string;
  /** Instruction number, once placed. */
  target: number | undefined = undefined;

  constructor(id: number, name: string) {
    this.id = id;
    this.name = name;
  }
}
