/** What the core needs of the process that owns children and descriptors; src/daemon/keel-link.ts is the real one. */
import type { PlayHost } from './play.ts';

export interface Keel extends PlayHost {
  /**
   * pidfd_send_signal to a registered init. 0 or -errno (-3 ESRCH: gone). With `call` (a request id that begins with a connection of
   * keel's) once for that call, however often it is asked again: the answer of an act that was done is 0.
   */
  signal(token: bigint, signal: number, call?: string): Promise<number>;
  /** Opens the exec FIFO for writing, without blocking, and removes it. 0 or -errno (-6 ENXIO: nobody waits there yet). `call`: as above. */
  go(fifo: string, call?: string): Promise<number>;
  /** Ends the play of a token and the process that it registered; resolves when the player is gone. */
  cancel(token: bigint): Promise<number>;
  /** Takes up a process that an earlier keel knew. 0 or -errno (-3 ESRCH: it has ended, its pid may be another's). */
  adopt(token: bigint, pid: number, startTime: bigint): Promise<number>;
  closeStdin(token: bigint): Promise<number>;
  /** Drops every descriptor that is kept for the token; with `drain` (ms) only when what an ended process wrote was copied. */
  release(token: bigint, drain?: number): Promise<number>;
  /** TIOCSWINSZ on the terminal of a registered process. 0 or -errno (-3 ESRCH: gone, -25 ENOTTY: it has none). */
  resize(token: bigint, rows: number, cols: number): Promise<number>;
  acknowledgeExit(token: bigint): void;
}

/** The init of a play told keel who it is. */
export interface Registration {
  token: bigint;
  pid: number;
  pidfdInode: bigint;
  startTime: bigint;
}

/** A registered init ended. */
export interface ProcessExit {
  token: bigint;
  /** As waitpid(2) gives it. */
  waitStatus: number;
  /** False: not keel's child and a kernel before 6.15, so nobody told the status. */
  known: boolean;
  time: Date;
}
