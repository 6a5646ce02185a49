/**
 * The server's side of one ttrpc connection. It is given whole frames (keel cuts them) and gives whole frames back. It never
 * throws and never closes the connection: containerd takes that for the shim's death.
 */

import { WherryError } from '../../src/errors.ts';
import { boundary, fault } from '../../src/fault.ts';
import { Response } from '../gen/ttrpc/ttrpc.ts';
import { Call, type Caller } from './call.ts';
import { decodeFrame, encodeFrame, type Frame, FrameFlag, FrameType } from './frame.ts';
import { decodeRequest, type TtrpcRequest } from './request.ts';
import type { ServiceTable, UnaryMethod } from './service.ts';

export interface TtrpcConnectionOptions {
  services: ServiceTable;
  /** Writes one frame. Not called after onClose. */
  send(frame: Buffer): void;
  /** What the handlers learn about the caller; signal and requestId are added. */
  context: Caller;
  /** Prefix of request ids. */
  name: string;
  /** Told of each answered error, for the log. */
  onError?(method: string, requestId: string, error: WherryError): void;
}

export interface TtrpcConnection {
  /** Exactly one frame with its header. */
  onFrame(frame: Buffer): void;
  onClose(): void;
}

/** setTimeout's largest delay; a longer budget than 24 days is no deadline. */
const MAX_DELAY = 2 ** 31 - 1;

export function serveTtrpcConnection(options: TtrpcConnectionOptions): TtrpcConnection {
  const calls = new Map<number, Call>();
  let lastStreamId = 0;
  let open = true;

  const respond = (streamId: number, payload: Uint8Array): void => {
    if (open) options.send(encodeFrame(streamId, FrameType.RESPONSE, 0, payload));
  };

  const fail = (streamId: number, method: string, thrown: unknown): void => {
    const error = WherryError.from(thrown);
    options.onError?.(method, `${options.name}.${streamId}`, error);
    respond(streamId, encodeError(error));
  };

  const call = async (
    streamId: number,
    method: UnaryMethod,
    name: string,
    request: TtrpcRequest,
  ): Promise<void> => {
    const context = new Call(options.context, `${options.name}.${streamId}`);
    calls.set(streamId, context);
    let timer: NodeJS.Timeout | undefined;
    const expire = (): void => {
      const error = new WherryError('deadline-exceeded', `${name}: context deadline exceeded`);
      context.abort(() => error);
      if (calls.delete(streamId)) fail(streamId, name, error);
    };
    const delay = Math.ceil(request.timeoutNano / 1e6);
    if (delay < 0) return expire();
    if (delay > 0 && delay <= MAX_DELAY) timer = setTimeout(expire, delay);

    let answer: Uint8Array | undefined;
    let error: unknown;
    try {
      boundary('call', name);
      const message = decodePayload(method, request.payload, name);
      const response = await method.handle(message, context);
      answer = encodeAnswer(method.response.encode(response).finish());
    } catch (thrown) {
      error = thrown;
    }
    clearTimeout(timer);
    // Gone from the table: answered by the deadline, or nobody is there to be answered.
    if (!calls.delete(streamId)) return;
    if (answer === undefined) return fail(streamId, name, error);
    fault('answer');
    boundary('answer', name);
    let answered: Buffer;
    try {
      answered = encodeFrame(streamId, FrameType.RESPONSE, 0, answer);
    } catch (thrown) {
      return fail(streamId, name, thrown);
    }
    // What is done is not told as failed: an answer that cannot be sent is left to keel, which asks the next wherryd.
    if (open) options.send(answered);
  };

  const onRequest = (frame: Frame): void => {
    const { streamId } = frame;
    if (streamId % 2 !== 1) throw invalid(`stream id ${streamId} must be odd for client initiated streams`);
    if (streamId <= lastStreamId)
      throw invalid(`stream id ${streamId} cannot be used again, the last was ${lastStreamId}`);
    lastStreamId = streamId;
    if ((frame.flags & FrameFlag.REMOTE_OPEN) !== 0) {
      throw new WherryError('unimplemented', 'streaming methods are not served here');
    }
    let request: TtrpcRequest;
    try {
      request = decodeRequest(frame.payload);
    } catch (cause) {
      throw invalid(`request is not a ttrpc.Request: ${(cause as Error).message}`);
    }
    const table = options.services.get(request.service);
    if (table === undefined) throw new WherryError('unimplemented', `service ${request.service}`);
    const method = Object.hasOwn(table, request.method) ? table[request.method] : undefined;
    if (method === undefined) throw new WherryError('unimplemented', `method ${request.method}`);
    void call(streamId, method, request.method, request);
  };

  return {
    onFrame(bytes) {
      let frame: Frame;
      try {
        frame = decodeFrame(bytes);
      } catch (thrown) {
        // Without a whole header there is no stream to answer on.
        options.onError?.('', options.name, WherryError.from(thrown));
        return;
      }
      try {
        if (frame.type === FrameType.REQUEST) onRequest(frame);
        else if (frame.type === FrameType.DATA && !calls.has(frame.streamId)) {
          throw invalid(`stream ${frame.streamId} is not active`);
        }
        // Other types are of a newer protocol, or answers to calls that we never make here.
      } catch (thrown) {
        fail(frame.streamId, '', thrown);
      }
    },
    onClose() {
      open = false;
      const gone = (): WherryError => new WherryError('canceled', 'the caller closed the connection');
      for (const call of calls.values()) call.abort(gone);
      calls.clear();
    },
  };
}

function invalid(message: string): WherryError {
  return new WherryError('invalid-argument', message);
}

function decodePayload(method: UnaryMethod, payload: Uint8Array, name: string): unknown {
  try {
    return method.request.decode(payload);
  } catch (cause) {
    throw invalid(`${name}: request cannot be decoded: ${(cause as Error).message}`);
  }
}

/** A Response without a status, which stands for success. */
function encodeAnswer(bytes: Uint8Array): Uint8Array {
  const payload = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return Response.encode({ payload }).finish();
}

/** A Response that holds an error: message with field and hint, no details (containerd knows none). */
export function encodeError(error: WherryError): Uint8Array {
  const message = error.describe().slice(0, 64 * 1024);
  return Response.encode({
    status: { code: error.code, message, details: [] },
    payload: Buffer.alloc(0),
  }).finish();
}
