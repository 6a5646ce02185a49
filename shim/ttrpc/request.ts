/**
 * A ttrpc.Request (proto/ttrpc/ttrpc.proto) read from its bytes: every call begins with one, and the generated codec takes longer for
 * it than most calls do. The metadata is passed over: a connection's namespace is its listener's.
 */

export interface TtrpcRequest {
  service: string;
  method: string;
  /** A view into the bytes it was read from. */
  payload: Buffer;
  /** Nanoseconds from now on that the caller waits; 0: no limit, -1: whatever is below 0. */
  timeoutNano: number;
}

/** Tags: the field's number and how it is encoded. */
const SERVICE = (1 << 3) | 2;
const METHOD = (2 << 3) | 2;
const PAYLOAD = (3 << 3) | 2;
const TIMEOUT = (4 << 3) | 0;

const NOTHING = Buffer.alloc(0);

/** Behind what varint() read. */
let behind = 0;

/** @throws Error where the bytes end too early or no field can begin as they say */
export function decodeRequest(bytes: Buffer): TtrpcRequest {
  const request: TtrpcRequest = { service: '', method: '', payload: NOTHING, timeoutNano: 0 };
  let at = 0;
  while (at < bytes.length) {
    const tag = varint(bytes, at);
    at = behind;
    const type = tag % 8;
    if (tag < 8 || tag > 0xffff_ffff) throw new Error(`tag ${tag} is none`);
    if (type === 0) {
      const value = varint(bytes, at);
      // Of an int64 only what is below 0 has ten bytes; a double would not know it from the largest.
      if (tag === TIMEOUT) request.timeoutNano = behind - at < 10 ? value : -1;
      at = behind;
      continue;
    }
    let end: number;
    if (type === 2) {
      end = varint(bytes, at);
      at = behind;
      end += at;
    } else if (type === 1) end = at + 8;
    else if (type === 5) end = at + 4;
    else throw new Error(`a field of type ${type}`);
    if (end > bytes.length) throw new Error('it ends within a field');
    if (tag === SERVICE) request.service = bytes.toString('utf8', at, end);
    else if (tag === METHOD) request.method = bytes.toString('utf8', at, end);
    else if (tag === PAYLOAD) request.payload = bytes.subarray(at, end);
    at = end;
  }
  return request;
}

function varint(bytes: Buffer, start: number): number {
  let value = 0;
  let scale = 1;
  for (let at = start; at < start + 10; at++) {
    const byte = bytes[at];
    if (byte === undefined) throw new Error('it ends within a number');
    value += (byte & 127) * scale;
    if (byte < 128) {
      behind = at + 1;
      return value;
    }
    scale *= 128;
  }
  throw new Error('a number of more than ten bytes');
}
