/** Shared libraries through FFI: the one place that loads them. Functions are declared by the file of their kernel area. */
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi';
import { WherryError } from '../errors.ts';

export type { KoffiFunc, LibraryHandle };

/** An address in the C library's memory, only ever handed back to it. */
export type Pointer = unknown;

const loaded = new Map<string, LibraryHandle>();

/**
 * The first of the candidates (dlopen(3) names) that loads; later calls get the same handle.
 * @throws WherryError failed-precondition that names the Debian package to install
 */
export function loadLibrary(candidates: readonly string[], debianPackage: string): LibraryHandle {
  const key = candidates.join(':');
  const known = loaded.get(key);
  if (known !== undefined) return known;
  let cause: unknown;
  for (const candidate of candidates) {
    try {
      const library = koffi.load(candidate);
      loaded.set(key, library);
      return library;
    } catch (error) {
      cause = error;
    }
  }
  throw new WherryError('failed-precondition', `${candidates[0]} cannot be loaded`, {
    hint: `install it: apt-get install ${debianPackage}`,
    cause,
  });
}

/** The C library that Node itself runs on, whichever it is. */
export function libc(): LibraryHandle {
  const known = loaded.get('');
  if (known !== undefined) return known;
  const library = koffi.load(null);
  loaded.set('', library);
  return library;
}

/** Reads `count` values of a C type at an address. */
export function readMemory(address: Pointer, type: string, count: number): number[] {
  return koffi.decode(address as object, type, count) as number[];
}

/** A call of a C function on libuv's pool: `call` hands `done` on to the function's async form. */
export function inPool<T>(call: (done: (error: unknown, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error ? reject(error) : resolve(value)));
  });
}
