/**
 * The one family of errors. Code throws `WherryError`; only the edges (gRPC, ttrpc, CLI) turn the kind into a code.
 * Texts that docker, podman and cri-o search for are written where the error is made and are never rewritten later.
 */

/** What went wrong, in the vocabulary of google.rpc.Code. */
export type ErrorKind =
  | 'canceled'
  | 'unknown'
  | 'invalid-argument'
  | 'deadline-exceeded'
  | 'not-found'
  | 'already-exists'
  | 'permission-denied'
  | 'resource-exhausted'
  | 'failed-precondition'
  | 'aborted'
  | 'out-of-range'
  | 'unimplemented'
  | 'internal'
  | 'unavailable';

/** Details that help a person to find the cause. */
export interface ErrorDetails {
  /** Field of config.json, of the request, or flag: `process.args[0]`, `id`, `--bundle`. */
  path?: string;
  /** Positive errno. */
  errno?: number;
  /** Name of the system call that failed. */
  syscall?: string;
  /** What was being done: the step's sentence. */
  step?: string;
  /** What the reader can do about it. */
  hint?: string;
  cause?: unknown;
}

/** google.rpc.Code of each kind; gRPC and ttrpc share the numbers. */
export const statusCodes: Readonly<Record<ErrorKind, number>> = {
  canceled: 1,
  unknown: 2,
  'invalid-argument': 3,
  'deadline-exceeded': 4,
  'not-found': 5,
  'already-exists': 6,
  'permission-denied': 7,
  'resource-exhausted': 8,
  'failed-precondition': 9,
  aborted: 10,
  'out-of-range': 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
};

export class WherryError extends Error {
  override readonly name = 'WherryError';
  readonly kind: ErrorKind;
  readonly details: Omit<ErrorDetails, 'cause'>;

  constructor(kind: ErrorKind, message: string, details: ErrorDetails = {}) {
    const { cause, ...rest } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.details = rest;
  }

  /** The gRPC / ttrpc status code. */
  get code(): number {
    return statusCodes[this.kind];
  }

  /** Message, field and hint in one line, for people. */
  describe(): string {
    const { path, hint } = this.details;
    const where = path !== undefined && !this.message.includes(path) ? ` (${path})` : '';
    return `${this.message}${where}${hint === undefined ? '' : `; ${hint}`}`;
  }

  /** Any thrown value as a WherryError; unknown ones become `unknown` with the original as cause. */
  static from(thrown: unknown): WherryError {
    if (thrown instanceof WherryError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new WherryError('unknown', message, { cause: thrown });
  }
}
