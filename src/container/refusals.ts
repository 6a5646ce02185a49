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
