/**
 * One call of the native client, as the commands see it. The client has no policy: it sends what it was called with, then does
 * what it is told (docs/internals.md, "Client link").
 */
import type { PlayHost } from '../container/play.ts';

export interface ClientRequest {
  /** In keel's pid namespace when it can be known (SO_PEERCRED), else the client's own word. */
  pid: number;
  uid: number;
  gid: number;
  umask: number;
  /** isTerminal[n]: descriptor n is a terminal. */
  isTerminal: readonly [boolean, boolean, boolean];
  rows: number;
  cols: number;
  /** Inode numbers; 0n where unknown. */
  namespaces: { mnt: bigint; user: bigint; pid: bigint; net: bigint; cgroup: bigint };
  /** Build of the client. */
  build: string;
  cwd: string;
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  rlimits: readonly (readonly [bigint, bigint])[];
  oomScoreAdj: number;
  nice: number;
}

/** What a client sends after `relay`. */
export interface RelayHandlers {
  /** Bytes of its standard input; undefined: the end. */
  input(bytes: Buffer | undefined): void;
  /** The size of its window, at once and whenever it changes; only of a raw terminal. */
  resized?(rows: number, cols: number): void;
}

/** The session is also the host that plays the tapes of `create` and `run`: hand it on as CallerContext.host. */
export interface ClientSession extends PlayHost {
  readonly request: ClientRequest;
  /** Aborts when the client has gone. */
  readonly signal: AbortSignal;
  out(descriptor: 1 | 2, data: string | Uint8Array): void;
  /** Waits for the client's child (the init); flags are WaitFlags of src/daemon/wire.ts. Resolves with the wait status. */
  wait(pid: number, flags: number): Promise<number>;
  /** All of the client's standard input. */
  readStdin(): Promise<Buffer>;
  /** Standard input from now on, as it comes; `raw`: a terminal is made raw and restored at the client's end. SIGINT and the like end the client. */
  relay(raw: boolean, handlers: RelayHandlers): void;
  exit(code: number): void;
}
