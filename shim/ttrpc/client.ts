/** The caller's side of ttrpc over a unix socket: one connection, any number of unary calls at once. */
import { connect, type Socket } from 'node:net';
import { intoBlock } from '../../src/daemon/link-socket.ts';
import { type ErrorKind, statusCodes, WherryError } from '../../src/errors.ts';
import { Request, Response } from '../gen/ttrpc/ttrpc.ts';
import { encodeFrame, type Frame, FrameCutter, FrameType } from './frame.ts';
import type { Codec } from './service.ts';

/** Path of a unix socket, with or without unix://; without a leading slash it is an abstract name (containerd's rule). */
export function socketPath(address: string): string {
  const path = address.startsWith('unix://') ? address.slice('unix://'.length) : address;
  return path.startsWith('/') || path.startsWith('\0') ? path : `\0${path}`;
}

const kinds = new Map<number, ErrorKind>(
  Object.entries(statusCodes).map(([kind, code]) => [code, kind as ErrorKind]),
);

interface PendingCall {
  resolve(payload: Buffer): void;
  reject(error: WherryError): void;
}

/** Who gets what a socket reads is known only after it is connected. */
interface Reading {
  onBytes(bytes: Buffer): void;
}

/** Answers are small. */
const READ_BYTES = 4096;

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

export class TtrpcClient implements Disposable {
  private readonly socket: Socket;
  private readonly pending = new Map<number, PendingCall>();
  private readonly cutter: FrameCutter;
  private nextStreamId = 1;
  private closedBy: WherryError | undefined;

  private constructor(socket: Socket, reading: Reading) {
    this.socket = socket;
    reading.onBytes = (bytes) => this.cutter.push(bytes);
    this.cutter = new FrameCutter(
      (frame) => this.onFrame(frame),
      (frame, length) =>
        this.settle(frame.streamId)?.reject(
          new WherryError('resource-exhausted', `answer of ${length} bytes is larger than ttrpc's limit`),
        ),
    );
    socket.on('error', (cause) =>
      this.fail(new WherryError('unavailable', `ttrpc: ${cause.message}`, { cause })),
    );
    socket.on('close', () => this.fail(new WherryError('unavailable', 'ttrpc: closed')));
  }

  /** Rejects with unavailable (nobody listens, deadline). `timeout` in milliseconds. */
  static async dial(address: string, timeout = 5000): Promise<TtrpcClient> {
    const reading: Reading = { onBytes: () => undefined };
    const socket = connect({
      path: socketPath(address),
      onread: intoBlock(READ_BYTES, (bytes) => reading.onBytes(bytes)),
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`no connection within ${timeout} ms`)), timeout);
    socket.once('connect', resolve);
    socket.once('error', reject);
    try {
      await promise;
    } catch (cause) {
      socket.on('error', () => undefined);
      socket.destroy();
      throw new WherryError('unavailable', `cannot connect to ${address}: ${(cause as Error).message}`, {
        cause,
      });
    } finally {
      clearTimeout(timer);
      socket.off('error', reject);
    }
    return new TtrpcClient(socket, reading);
  }

  get closed(): boolean {
    return this.closedBy !== undefined;
  }

  /** One unary call. The error's kind is the status code's; unavailable where the connection broke. `timeout` in milliseconds, 0 for none. */
  async call<Req, Res>(
    service: string,
    method: string,
    codecs: { request: Pick<Codec<Req>, 'encode'>; response: Codec<Res> },
    request: Req,
    timeout: number,
  ): Promise<Res> {
    if (this.closedBy !== undefined) throw this.closedBy;
    const streamId = this.nextStreamId;
    this.nextStreamId += 2;
    const bytes = Request.encode({
      service,
      method,
      payload: viewOf(codecs.request.encode(request).finish()),
      timeoutNano: BigInt(timeout) * 1_000_000n,
      metadata: [],
    }).finish();
    const frame = encodeFrame(streamId, FrameType.REQUEST, 0, bytes);
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.pending.set(streamId, { resolve, reject });
    const expire = () => {
      this.pending.delete(streamId);
      reject(
        new WherryError('deadline-exceeded', `ttrpc: ${service}/${method}: no answer within ${timeout} ms`),
      );
    };
    const timer = timeout === 0 ? undefined : setTimeout(expire, timeout);
    try {
      this.socket.write(frame);
      return codecs.response.decode(await promise);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.fail(new WherryError('canceled', 'ttrpc: closed by us'));
    this.socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private onFrame(frame: Frame): void {
    if (frame.type !== FrameType.RESPONSE) return;
    const call = this.settle(frame.streamId);
    if (call === undefined) return;
    try {
      const response = Response.decode(frame.payload);
      const code = response.status?.code ?? 0;
      if (code === 0) call.resolve(response.payload);
      else call.reject(new WherryError(kinds.get(code) ?? 'unknown', response.status?.message ?? ''));
    } catch (cause) {
      call.reject(new WherryError('internal', 'ttrpc: the answer cannot be decoded', { cause }));
    }
  }

  private settle(streamId: number): PendingCall | undefined {
    const call = this.pending.get(streamId);
    this.pending.delete(streamId);
    return call;
  }

  private fail(error: WherryError): void {
    if (this.closedBy !== undefined) return;
    this.closedBy = error;
    for (const call of this.pending.values()) call.reject(error);
    this.pending.clear();
  }
}
