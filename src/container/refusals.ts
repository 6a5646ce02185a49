/** What is said of a container that is not as it should be; callers of runc look for these words. */
import { type ErrorKind, WherryError } from '../errors.ts';

export function alreadyExists(): WherryError {
  return new WherryError('already-exists', 'container with given ID already exists', { path: 'id' });
}

export function notFound(): WherryError {
  return new WherryError('not-found', 'container does not exist', { path: 'id' });
}

export function notRunning(kind: ErrorKind = 'not-found'): WherryError {
  return new WherryError(kind, 'container not running');
}

const ESRCH = 3;

/** `result`: keel's answer to a signal, 0 or -errno; `gone` is thrown for a process that has ended. */
export function assertSent(result: number, signal: number, gone: () => WherryError): void {
  if (result === -ESRCH) throw gone();
  if (result < 0) {
    throw new WherryError('invalid-argument', `cannot send signal ${signal}`, {
      errno: -result,
      syscall: 'pidfd_send_signal',
      path: 'signal',
    });
  }
}
