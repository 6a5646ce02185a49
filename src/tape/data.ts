/** A tape's data while it grows: two sections of bytes, and the pointers between them. */
import { MAX_ALIGN, MAX_IMAGE } from './format.ts';
import { DataRef, TapeError } from './refs.ts';

const FIRST_BYTES = 16 * 1024;
/** Of the texts of earlier tapes. */
const KEPT_TEXTS = 1024;
const KEPT_BYTES = 256 * 1024;

class Bytes {
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  /** Reserves zero bytes and returns their offset; `align` is a power of two. */
  reserve(length: number, align: number): number {
    const offset = (this.length + align - 1) & -align;
    const end = offset + length;
    if (end > this.bytes.length) this.grow(end);
    this.length = end;
    return offset;
  }

  clear(): void {
    this.bytes.fill(0, 0, this.length);
    this.length = 0;
  }

  private grow(end: number): void {
    if (end > MAX_IMAGE)
      throw new TapeError(`data overflow: more than ${MAX_IMAGE} bytes`, 'resource-exhausted');
    const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}

export class DataSegment {
  private readonly data: Bytes;
  private readonly strings: Bytes;
  /**
   * Where a text lies, counted over all tapes that were written here; what lies before `earlier` is no longer there. The map is kept
   * because most texts are those of the tape before, and a map that grows is slow.
   */
  private readonly known = new Map<string, number>();
  private earlier = 0;
  /** Pairs: a u64 at this offset of the data is the address of this offset of the data, or of the texts where it is negative (`~offset`). */
  private readonly pairs: number[] = [];

  constructor(size = FIRST_BYTES) {
    this.data = new Bytes(size);
    this.strings = new Bytes(size);
  }

  /** NUL-terminated UTF-8; equal texts share one place, so they must not be written to. */
  cstr(text: string): DataRef {
    const offset = this.text(text);
    const ascii = this.strings.bytes[offset + text.length] === 0;
    return new DataRef('strings', offset, (ascii ? text.length : Buffer.byteLength(text)) + 1);
  }

  /** The same, as an offset into the texts. */
  text(text: string): number {
    const known = this.known.get(text);
    if (known !== undefined && known >= this.earlier) return known - this.earlier;
    const offset = this.write(text);
    this.known.set(text, this.earlier + offset);
    return offset;
  }

  /** Zero bytes that calls may write to. */
  space(length: number, align = 8): DataRef {
    if (!Number.isSafeInteger(length) || length < 0) throw new TapeError(`cannot reserve ${length} bytes`);
    if (!(align >= 1 && align <= MAX_ALIGN && (align & (align - 1)) === 0))
      throw new TapeError(`alignment ${align} is not supported`);
    // An address of nothing must still lie inside the data: the player checks it.
    return new DataRef('data', this.data.reserve(length === 0 ? 1 : length, align), length);
  }

  bytes(data: Uint8Array, align = 8): DataRef {
    const ref = this.space(data.length, align);
    this.data.bytes.set(data, ref.offset);
    return ref;
  }

  /** A u64 at `at` becomes the address of `to`. */
  point(at: DataRef, to: DataRef): void {
    if (at.section !== 'data' || at.length < 8 || (at.offset & 7) !== 0)
      throw new TapeError('a pointer needs 8 aligned bytes of writable data');
    this.pairs.push(at.offset, to.section === 'data' ? to.offset : ~to.offset);
  }

  get pointers(): number {
    return this.pairs.length / 2;
  }

  get length(): number {
    return this.textsBase + this.strings.length;
  }

  /** Where the texts begin in the assembled data; it moves as long as the data grows. */
  get textsBase(): number {
    return (this.data.length + 7) & -8;
  }

  /** Writes the data, with every pointer as the offset that the player turns into an address, and the list of pointers. */
  copyTo(image: Uint8Array, dataOffset: number, words: Int32Array, relocationsOffset: number): void {
    const { data, strings, pairs, textsBase } = this;
    image.set(data.bytes.subarray(0, data.length), dataOffset);
    image.set(strings.bytes.subarray(0, strings.length), dataOffset + textsBase);
    const list = relocationsOffset >> 2;
    for (let index = 0; index < pairs.length; index += 2) {
      const at = pairs[index]!;
      const to = pairs[index + 1]!;
      words[(dataOffset + at) >> 2] = to >= 0 ? to : textsBase + ~to;
      words[((dataOffset + at) >> 2) + 1] = 0;
      words[list + (index >> 1)] = at;
    }
  }

  /** Bytes of memory. */
  get size(): number {
    return this.data.bytes.length + this.strings.bytes.length;
  }

  clear(): void {
    this.earlier += this.strings.length;
    this.data.clear();
    this.strings.clear();
    if (this.known.size > KEPT_TEXTS || this.earlier > KEPT_BYTES) {
      this.known.clear();
      this.earlier = 0;
    }
    this.pairs.length = 0;
  }

  /** Nearly all texts are short and ASCII: for those a loop is quicker than the way to the encoder. */
  private write(text: string): number {
    const { strings } = this;
    const { length } = text;
    const offset = strings.reserve(length + 1, 1);
    const { bytes } = strings;
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (code === 0 || code > 0x7f) return this.rewrite(text, offset);
      bytes[offset + index] = code;
    }
    return offset;
  }

  /** From a place on that `write` has reserved in vain. */
  private rewrite(text: string, offset: number): number {
    const { strings } = this;
    strings.bytes.fill(0, offset, strings.length);
    strings.length = offset;
    if (text.includes('\0'))
      throw new TapeError(`text with a NUL byte: ${JSON.stringify(text)}`, 'invalid-argument');
    strings.reserve(Buffer.byteLength(text) + 1, 1);
    strings.bytes.set(Buffer.from(text), offset);
    return offset;
  }
}
