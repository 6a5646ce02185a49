/**
 * Frames of the keel link and the client link: 16 bytes of header, then the payload (docs/internals.md, "Frames").
 * Only bytes here: what a frame means is decided by keel-link.ts and client-link.ts.
 */
import { WherryError } from '../errors.ts';
import { HEADER_SIZE, MAX_FRAME } from './wire.ts';

export interface Frame {
  type: number;
  id: bigint;
  payload: Buffer;
}

export function encodeFrame(type: number, id: bigint, ...parts: Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  if (length > MAX_FRAME) {
    throw new WherryError(
      'resource-exhausted',
      `a frame of ${length} bytes is over the limit of ${MAX_FRAME}`,
    );
  }
  const frame = Buffer.allocUnsafe(HEADER_SIZE + length);
  frame.writeUInt32LE(length, 0);
  frame.writeUInt16LE(type, 4);
  frame.writeUInt16LE(0, 6);
  frame.writeBigUInt64LE(id, 8);
  let at = HEADER_SIZE;
  for (const part of parts) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/** Cuts a byte stream into frames. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);
  readonly #onFrame: (frame: Frame) => void;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  /** Throws `invalid-argument` when a header announces more than the limit: the stream is unusable then. */
  push(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (this.#pending.length - at >= HEADER_SIZE) {
      const length = this.#pending.readUInt32LE(at);
      if (length > MAX_FRAME) {
        throw new WherryError(
          'invalid-argument',
          `frame of ${length} bytes is over the limit of ${MAX_FRAME}`,
        );
      }
      if (this.#pending.length - at < HEADER_SIZE + length) break;
      const frame: Frame = {
        type: this.#pending.readUInt16LE(at + 4),
        id: this.#pending.readBigUInt64LE(at + 8),
        payload: this.#pending.subarray(at + HEADER_SIZE, at + HEADER_SIZE + length),
      };
      at += HEADER_SIZE + length;
      this.#onFrame(frame);
    }
    this.#pending = this.#pending.subarray(at);
  }
}

/** Reads the fields of a payload in order; every read past the end is a located error. */
export class FieldReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) {
      throw new WherryError(
        'invalid-argument',
        `payload ends at ${this.#bytes.length}, field wants ${at + length}`,
      );
    }
    this.#at = at + length;
    return at;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }
  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }
  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }
  i32(): number {
    return this.#bytes.readInt32LE(this.#take(4));
  }
  u64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }
  str(): string {
    const length = this.u32();
    const at = this.#take(length);
    return this.#bytes.toString('utf8', at, at + length);
  }
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  rest(): Buffer {
    const at = this.#at;
    this.#at = this.#bytes.length;
    return this.#bytes.subarray(at);
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

export function str(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([u32(bytes.length), bytes]);
}
