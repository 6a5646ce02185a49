/** What is said of a container that is not as it should be; callers of runc look for these words. */
import { type ErrorKind, WherryError } from '../errors.ts';
import { errnoNumbers } from '../linux/errno.ts';
import type { ContainerRecord } from './record.ts';
import type { ContainerStatus } from './types.ts';

export function alreadyExists(): WherryError {
  return new WherryError('already-exists', 'container with given ID already exists', { path: 'id' });
}

export function notFound(): WherryError {
  return new WherryError('not-found', 'container does not exist', { path: 'id' });
}

export function notRunning(kind: ErrorKind = 'not-found'): WherryError {
  return new WherryError(kind, 'container not running');
}

/** `hint`: how to end it first, where the caller's words for that are known. */
export function notStopped(id: string, status: ContainerStatus, hint?: string): WherryError {
  const message = `cannot delete container ${id} that is not stopped: ${status}`;
  return new WherryError('failed-precondition', message, hint === undefined ? {} : { path: 'id', hint });
}

/** `result`: keel's answer to a signal, 0 or -errno; `gone` is thrown for a process that has ended. */
export function assertSent(result: number, signal: number, gone: () => WherryError): void {
  if (result === -errnoNumbers.ESRCH) throw gone();
  if (result < 0) {
    throw new WherryError('invalid-argument', `cannot send signal ${signal}`, {
      errno: -result,
      syscall: 'pidfd_send_signal',
      path: 'signal',
    });
  }
}

/** Nothing can be executed in a container that is not there yet, or no more. */
export function assertAlive(record: ContainerRecord): void {
  if (record.status === 'creating') {
    throw new WherryError('failed-precondition', 'cannot exec in a container that is being created');
  }
  if (record.exit !== undefined || record.deleting) throw execInStopped();
}

export function execInStopped(): WherryError {
  return new WherryError('failed-precondition', 'cannot exec in a stopped container');
}
