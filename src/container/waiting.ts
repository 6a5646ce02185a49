/** Waiting and giving up. */
import { WherryError } from '../errors.ts';

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** @throws WherryError canceled when `signal` is or becomes aborted before the promise ends */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () =>
    aborted.reject(new WherryError('canceled', 'the caller has gone', { cause: signal.reason }));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Most short-lived containers have ended by then, and need neither a watch nor a memory. */
export const LATER_MS = 30;
