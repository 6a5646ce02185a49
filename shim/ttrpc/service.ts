/** What a service looks like to a transport: a table of unary methods, neutral between ttrpc and gRPC. */

/** How a message becomes bytes and back; the generated codecs of shim/gen have this shape. */
export interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** Who calls, and for how long. */
export interface CallContext {
  namespace: string;
  /** containerd's address; '' for a caller of the gRPC socket that no containerd stands behind. */
  scope: string;
  /** Listener that the call came in by; 0n for gRPC. */
  listenerId: bigint;
  /** Aborts at the deadline and when the caller has gone. */
  signal: AbortSignal;
  /** For the log: `<connection>.<stream>`. */
  requestId: string;
}

export interface UnaryMethod<Request = unknown, Response = unknown> {
  request: Codec<Request>;
  response: Codec<Response>;
  handle(request: Request, context: CallContext): Promise<Response>;
}

/** Methods by name. */
export type MethodTable = Readonly<Record<string, UnaryMethod>>;

/** Tables by the full name of the service. */
export type ServiceTable = ReadonlyMap<string, MethodTable>;

/** Checks one entry's types, then forgets them so that it fits into a table. */
export function unary<Request, Response>(method: UnaryMethod<Request, Response>): UnaryMethod {
  return method as UnaryMethod;
}
