/**
 * What may differ between Wherry's shim and containerd's own in the same scenario: each an exact pattern of a place and why. Everything
 * else is equal, byte by byte after what is new in each run (pids, times, paths, ids) was put aside.
 */
export interface AllowedDifference {
  /** Where: a path in the recorded scenario. */
  place: RegExp;
  because: string;
}

export const allowedDifferences: readonly AllowedDifference[] = [
  {
    place: /: message$/,
    because:
      'Wherry names the field or the id that it is about, in place of the class of the error, which containerd adds by the code',
  },
  {
    place: /^(create again|start again|bad exec start|delete running|exec in stopped): code$/,
    because:
      "the Go shim says 2, unknown, of everything that runc refuses; 6 and 9 say the same more exactly, and containerd's callers take both",
  },
  {
    place: /^files$/,
    because: 'Wherry writes `address` for every containerd, from which 1.x finds the shim after a downgrade',
  },
  {
    place: /^shutdown(: (code|bytes))?$/,
    because:
      'the Go shim ends with its Shutdown, now and then before it has answered it: the caller then sees a closed connection, 14',
  },
  {
    place: /^delete output$/,
    because: 'the Go shim logs to stderr and knows no exit status; Wherry is silent and gives the real one',
  },
];
