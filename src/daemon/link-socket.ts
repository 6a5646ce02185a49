/**
 * The stream socket to keel or to a client. A container's start and end are a dozen small messages each way, and Node's streams cost more
 * than what is done about them: so what comes is read into one block, and what goes is written at once wherever the socket takes it.
 */
import { type OnReadOpts, Socket } from 'node:net';
import { writeNow } from '../linux/write-now.ts';

const BLOCK_BYTES = 64 * 1024;

export interface LinkSocketHandlers {
  /** The bytes are the receiver's to keep. */
  onData(bytes: Buffer): void;
  /** Closed or broken; may be told twice. */
  onLost(): void;
}

/** A socket's `onread`: all reads go into one block of so many bytes, where a stream allocates 64 KiB for each. `onData` keeps what it gets. */
export function intoBlock(bytes: number, onData: (bytes: Buffer) => void): OnReadOpts {
  return {
    buffer: Buffer.allocUnsafeSlow(bytes),
    callback: (length, block) => {
      onData(Buffer.from(block.subarray(0, length)));
      return true;
    },
  };
}

export class LinkSocket {
  readonly #descriptor: number;
  readonly #socket: Socket;

  /** The descriptor belongs to this object from now on. */
  constructor(descriptor: number, { onData, onLost }: LinkSocketHandlers) {
    this.#descriptor = descriptor;
    this.#socket = new Socket({
      fd: descriptor,
      readable: true,
      writable: true,
      onread: intoBlock(BLOCK_BYTES, onData),
    });
    this.#socket.on('error', onLost);
    this.#socket.on('close', onLost);
  }

  write(bytes: Uint8Array): void {
    const socket = this.#socket;
    // What is queued goes first.
    const free = socket.writableLength === 0 && socket.writableCorked === 0 && socket.writable;
    const taken = free ? writeNow(this.#descriptor, bytes) : 0;
    if (taken < bytes.length) socket.write(bytes.subarray(taken));
  }

  /** What is written until the end of this turn goes in one piece. */
  together(): void {
    this.#socket.cork();
    process.nextTick(() => this.#socket.uncork());
  }
}
