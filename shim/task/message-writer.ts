/**
 * A protobuf message written field by field into one buffer that is used again for the next: for answers that are asked for so often
 * that objects in between, and the generated codec's, would be most of their cost. Zeros are left out (proto3).
 */

/** Of a field's tag (protobuf.dev, "Encoding"). */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

/** The longest varint is 10 bytes; so is no tag. */
const ROOM = 16;

/** One 64-bit value as two of 32, without arithmetic on big integers. Little endian, as every machine that we run on. */
const wide = new BigUint64Array(1);
const halves = new Uint32Array(wide.buffer);

export class MessageWriter {
  #bytes = Buffer.allocUnsafeSlow(4096);
  #at = 0;

  /** A copy of what `write` writes of it. */
  message<T>(of: T, write: (of: T) => void): Buffer {
    this.#at = 0;
    write(of);
    const message = Buffer.allocUnsafe(this.#at);
    this.#bytes.copy(message, 0, 0, this.#at);
    return message;
  }

  /** uint64. */
  count(field: number, value: bigint | undefined): void {
    if (value === undefined || value === 0n) return;
    this.#tag(field, VARINT);
    this.#wide(value);
  }

  /** uint32. */
  small(field: number, value: number): void {
    if (value === 0) return;
    this.#tag(field, VARINT);
    this.#varint(value);
  }

  double(field: number, value: number): void {
    if (value === 0) return;
    this.#tag(field, FIXED64);
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  text(field: number, value: string): void {
    if (value === '') return;
    const length = Buffer.byteLength(value);
    this.#tag(field, BYTES);
    this.#varint(length);
    this.#room(length);
    this.#at += this.#bytes.write(value, this.#at, 'utf8');
  }

  bytes(field: number, value: Uint8Array): void {
    if (value.length === 0) return;
    this.#tag(field, BYTES);
    this.#varint(value.length);
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  /** repeated uint64, packed. */
  counts(field: number, values: readonly bigint[]): void {
    if (values.length === 0) return;
    const start = this.begin(field);
    for (const value of values) this.#wide(value);
    this.end(start);
  }

  /** A message inside this one, up to end(). */
  begin(field: number): number {
    this.#tag(field, BYTES);
    return ++this.#at;
  }

  /** `start` is what begin() gave. */
  end(start: number): void {
    const length = this.#at - start;
    let prefix = 1;
    for (let rest = length >>> 7; rest > 0; rest >>>= 7) prefix++;
    this.#room(prefix);
    // Room was left for a length below 128.
    if (prefix > 1) this.#bytes.copyWithin(start + prefix - 1, start, this.#at);
    this.#at = start - 1;
    this.#varint(length);
    this.#at += length;
  }

  #tag(field: number, type: number): void {
    this.#room(0);
    this.#varint((field << 3) | type);
  }

  #room(bytes: number): void {
    if (this.#at + bytes + ROOM <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * (this.#bytes.length + bytes));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }

  #varint(value: number): void {
    const bytes = this.#bytes;
    let rest = value >>> 0;
    while (rest > 127) {
      bytes[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    bytes[this.#at++] = rest;
  }

  #wide(value: bigint): void {
    this.#room(0);
    wide[0] = value;
    let low = halves[0]!;
    let high = halves[1]!;
    while (high > 0) {
      this.#bytes[this.#at++] = (low & 127) | 128;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.#varint(low);
  }
}
