/**
 * Who plays a tape: keel (for containerd, gRPC and detached containers) or the client of the command line, so that the
 * container's parent is who the caller expects.
 */
export interface PlayResult {
  /** Wait status of the player as waitpid(2) gives it; in-process play: exit code << 8. */
  waitStatus: number;
  /** First 1024 bytes of the tape's shared page (docs/internals.md). */
  page: Uint8Array;
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
}

export interface PlayHost {
  readonly kind: 'keel' | 'client';
  play(token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult>;
}
