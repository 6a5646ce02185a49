/**
 * ttrpc: the protocol between containerd and its shims. This folder knows frames, calls and deadlines, and nothing of tasks,
 * containers or keel. Source of the format: PROTOCOL.md of containerd/ttrpc.
 * A frame is a header of 10 bytes, big endian (u32 payload length, u32 stream id, u8 type, u8 flags), then the payload.
 */
import { WherryError } from '../../src/errors.ts';

export const FRAME_HEADER = 10;
/** The largest payload that either side may send. */
export const MAX_PAYLOAD = 4 << 20;

export const FrameType = { REQUEST: 1, RESPONSE: 2, DATA: 3 } as const;

/** Flags of streams; a unary call has none. */
export const FrameFlag = { REMOTE_CLOSED: 1, REMOTE_OPEN: 2, NO_DATA: 4 } as const;

export interface Frame {
  streamId: number;
  /** One of FrameType, or a type of the future. */
  type: number;
  flags: number;
  /** A view into the bytes it was read from. */
  payload: Buffer;
}

/** One frame as bytes. The payload must not be larger than MAX_PAYLOAD: the peer would drop the connection. */
export function encodeFrame(streamId: number, type: number, flags: number, payload: Uint8Array): Buffer {
  if (payload.length > MAX_PAYLOAD) {
    throw new WherryError(
      'resource-exhausted',
      `message of ${payload.length} bytes is larger than ttrpc's limit of ${MAX_PAYLOAD}`,
    );
  }
  const frame = Buffer.allocUnsafe(FRAME_HEADER + payload.length);
  frame.writeUInt32BE(payload.length, 0);
  frame.writeUInt32BE(streamId, 4);
  frame.writeUInt8(type, 8);
  frame.writeUInt8(flags, 9);
  frame.set(payload, FRAME_HEADER);
  return frame;
}

/** Exactly one frame from bytes that hold exactly one; invalid-argument where they do not. */
export function decodeFrame(bytes: Buffer): Frame {
  if (bytes.length < FRAME_HEADER || bytes.length !== FRAME_HEADER + bytes.readUInt32BE(0)) {
    throw new WherryError('invalid-argument', `not one whole ttrpc frame: ${bytes.length} bytes`);
  }
  return {
    streamId: bytes.readUInt32BE(4),
    type: bytes.readUInt8(8),
    flags: bytes.readUInt8(9),
    payload: bytes.subarray(FRAME_HEADER),
  };
}

/**
 * Cuts a byte stream into frames. A frame over MAX_PAYLOAD is read and thrown away without being held, and reported once with an
 * empty payload to `onOversized`.
 */
export class FrameCutter {
  private pending: Buffer = Buffer.alloc(0);
  private discard = 0;
  private readonly onFrame: (frame: Frame) => void;
  private readonly onOversized: (frame: Frame, length: number) => void;

  constructor(onFrame: (frame: Frame) => void, onOversized: (frame: Frame, length: number) => void) {
    this.onFrame = onFrame;
    this.onOversized = onOversized;
  }

  push(chunk: Buffer): void {
    let rest = this.skip(chunk);
    if (this.pending.length > 0) rest = Buffer.concat([this.pending, rest]);
    while (rest.length >= FRAME_HEADER) {
      const length = rest.readUInt32BE(0);
      if (length > MAX_PAYLOAD) {
        const header = rest.subarray(0, FRAME_HEADER);
        this.discard = length;
        rest = this.skip(rest.subarray(FRAME_HEADER));
        this.onOversized(
          {
            streamId: header.readUInt32BE(4),
            type: header.readUInt8(8),
            flags: header.readUInt8(9),
            payload: Buffer.alloc(0),
          },
          length,
        );
        continue;
      }
      if (rest.length < FRAME_HEADER + length) break;
      this.onFrame(decodeFrame(rest.subarray(0, FRAME_HEADER + length)));
      rest = rest.subarray(FRAME_HEADER + length);
    }
    this.pending = rest;
  }

  private skip(chunk: Buffer): Buffer {
    const skipped = Math.min(this.discard, chunk.length);
    this.discard -= skipped;
    return chunk.subarray(skipped);
  }
}
