/** Calls on files and descriptors through FFI: declared once, when the first of them is needed. */
import { type KoffiFunc, libc } from './library.ts';

type Long = number | bigint;

export interface FileCalls {
  open: KoffiFunc<(path: string, flags: number, mode: number) => number>;
  read: KoffiFunc<(fd: number, into: Uint8Array, count: Long) => Long>;
  pread: KoffiFunc<(fd: number, into: Uint8Array, count: Long, offset: Long) => Long>;
  write: KoffiFunc<(fd: number, bytes: Uint8Array, count: Long) => Long>;
  close: KoffiFunc<(fd: number) => number>;
}

let calls: FileCalls | undefined;

export function fileCalls(): FileCalls {
  const library = libc();
  calls ??= {
    open: library.func('int open(const char *, int, int)'),
    read: library.func('long read(int, void *, long)'),
    pread: library.func('long pread(int, void *, long, long)'),
    write: library.func('long write(int, const void *, long)'),
    close: library.func('int close(int)'),
  };
  return calls;
}
