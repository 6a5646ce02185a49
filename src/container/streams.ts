/** What keel does with the streams of processes that it carries: how long it may, and what its answers mean. */
import { WherryError } from '../errors.ts';
import { errnoNumbers } from '../linux/errno.ts';

/**
 * How long a delete waits for output that keel still copies, until it closes the stream whoever holds it. containerd 1.6 gives its
 * own shim 2 s for that, later ones 10 s.
 */
export const DRAIN_MS = 10_000;

/** keel's answer to an order to resize a terminal. */
export function assertResized(result: number): void {
  // Without a terminal there is nothing to do, as with containerd's own shim.
  if (result >= 0 || result === -errnoNumbers.ENOTTY) return;
  if (result === -errnoNumbers.ESRCH)
    throw new WherryError('failed-precondition', 'process is not running', { path: 'id' });
  throw new WherryError('invalid-argument', 'cannot set the size of the terminal', {
    errno: -result,
    syscall: 'ioctl',
  });
}
