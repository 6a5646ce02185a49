/** A tape's data while it grows: two sections of bytes, and the pointers between them. */
import { MAX_ALIGN, MAX_IMAGE } from './format.ts';
import { DataRef, type Section, TapeError } from './refs.ts';

class Bytes {
  buffer = Buffer.alloc(4096);
  length = 0;

  /** Reserves zero bytes and returns their offset. */
  reserve(length: number, align: number): number {
    const offset = Math.ceil(this.length / align) * align;
    const end = offset + length;
    if (end > MAX_IMAGE)
      throw new TapeError(`data overflow: more than ${MAX_IMAGE} bytes`, 'resource-exhausted');
    if (end > this.buffer.length) {
      const larger = Buffer.alloc(Math.max(end, this.buffer.length * 2));
      this.buffer.copy(larger, 0, 0, this.length);
      this.buffer = larger;
    }
    this.length = end;
    return offset;
  }
}

/** A u64 at `at` that holds the address of `to`. */
export interface Pointer {
  at: DataRef;
  to: DataRef;
}

export class DataSegment {
  private readonly sections: Record<Section, Bytes> = { data: new Bytes(), strings: new Bytes() };
  private readonly strings = new Map<string, DataRef>();
  readonly pointers: Pointer[] = [];

  /** NUL-terminated UTF-8; equal texts share one place, so they must not be written to. */
  cstr(text: string): DataRef {
    const known = this.strings.get(text);
    if (known !== undefined) return known;
    if (text.includes('\0'))
      throw new TapeError(`text with a NUL byte: ${JSON.stringify(text)}`, 'invalid-argument');
    const length = Buffer.byteLength(text) + 1;
    const section = this.sections.strings;
    const offset = section.reserve(length, 1);
    section.buffer.write(text, offset);
    const ref = new DataRef('strings', offset, length);
    this.strings.set(text, ref);
    return ref;
  }

  /** Zero bytes that calls may write to. */
  space(length: number, align = 8): DataRef {
    if (!Number.isSafeInteger(length) || length < 0) throw new TapeError(`cannot reserve ${length} bytes`);
    if (![1, 2, 4, 8, 16, 32, MAX_ALIGN].includes(align))
      throw new TapeError(`alignment ${align} is not supported`);
    // An address of nothing must still lie inside the data: the player checks it.
    return new DataRef('data', this.sections.data.reserve(Math.max(length, 1), align), length);
  }

  bytes(data: Uint8Array, align = 8): DataRef {
    const ref = this.space(data.length, align);
    this.sections.data.buffer.set(data, ref.offset);
    return ref;
  }

  point(at: DataRef, to: DataRef): void {
    if (at.section !== 'data' || at.length < 8)
      throw new TapeError('a pointer needs 8 bytes of writable data');
    this.pointers.push({ at, to });
  }

  /** Offset in the assembled data. */
  offsetOf(ref: DataRef): number {
    return ref.section === 'data' ? ref.offset : this.stringsBase + ref.offset;
  }

  get length(): number {
    return this.stringsBase + this.sections.strings.length;
  }

  /** Writes the data, with every pointer as the offset that the player turns into an address. */
  write(into: Buffer): void {
    const { data, strings } = this.sections;
    data.buffer.copy(into, 0, 0, data.length);
    strings.buffer.copy(into, this.stringsBase, 0, strings.length);
    for (const { at, to } of this.pointers) {
      into.writeUInt32LE(this.offsetOf(to), at.offset);
      into.writeUInt32LE(0, at.offset + 4);
    }
  }

  /** Where the strings begin in the assembled data; it moves as long as the data grows. */
  get stringsBase(): number {
    return Math.ceil(this.sections.data.length / 8) * 8;
  }
}
