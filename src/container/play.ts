/**
 * Who plays a tape: keel (for containerd, gRPC and detached containers) or the client of the command line, so that the
 * container's parent is who the caller expects.
 */
export interface PlayResult {
  /** Wait status of the player as waitpid(2) gives it; in-process play: exit code << 8. */
  waitStatus: number;
  /** First 1024 bytes of the tape's shared page (docs/internals.md). */
  page: Uint8Array;
  /** Of `next.cleanup`: what came of it, undefined when it was not played. */
  cleanup?: Promise<PlayResult | undefined>;
}

export interface PlayOptions {
  /** Milliseconds until the play is given up; 0: none. */
  deadline?: number;
  /** Play inside the client (no clone in the tape). Ignored by keel. */
  inProcess?: boolean;
  /** The player gets a console socket as descriptor 5 and its owner relays the terminal that arrives there. */
  console?: boolean;
  /** The client's descriptors 3 to 2 + n are given to the player from PRESERVED_BASE on. Ignored by keel. */
  preserve?: number;
  /**
   * The client goes on by itself, without asking: it waits for the init (whoever calls the session's `wait` gets the status) and plays this
   * tape after the end. Saves two round trips of each foreground container. With `onGone` it ends by itself when that tape has succeeded,
   * which is told so as soon as it is heard. Ignored by keel.
   */
  next?: { waitFlags: number; cleanup: Uint8Array | undefined; onGone?: (() => void) | undefined };
}

/** What the client is to carry from the container to the caller's service manager (docs/internals.md, NOTIFY). */
export interface NotifyOrder {
  /** Descriptors of the client: where the program's messages arrive, and the manager's, connected. */
  container: number;
  manager: number;
  /** 0: the init of the play that comes next. */
  init: number;
  /** The client outlives the container and stays the main process. Else its end waits until the manager was told, or the init has ended. */
  staying: boolean;
}

export interface PlayHost {
  readonly kind: 'keel' | 'client';
  play(token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult>;
  /** Takes the status of a child that a failed play left. Not there: the host does so by itself. */
  reap?(pid: number): Promise<void>;
  /** A client's, before the program runs. */
  notify?(order: NotifyOrder): void;
}
