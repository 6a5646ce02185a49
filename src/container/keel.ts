/** What the core needs of the process that owns children and descriptors; src/daemon/keel-link.ts is the real one. */
import type { PlayHost } from './play.ts';

export interface Keel extends PlayHost {
  /** pidfd_send_signal to a registered init. 0 or -errno (-3 ESRCH: gone). */
  signal(token: bigint, signal: number): Promise<number>;
  /** Opens the exec FIFO for writing, without blocking. 0 or -errno (-6 ENXIO: nobody waits there yet). */
  go(fifo: string): Promise<number>;
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
