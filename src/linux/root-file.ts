/**
 * Reading a small file below a root filesystem without ever leaving it: openat2(2) with RESOLVE_IN_ROOT, through FFI, as Node has no
 * call for it. The root may be anything, a FUSE mount that never answers included, so the calls run on libuv's pool, two at most at
 * a time (it has four threads, which all of Node's file work shares), and nobody waits longer than the deadline.
 */
import { readdir } from 'node:fs/promises';
import { currentArch } from './arch.ts';
import {
  AT_FDCWD,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
} from './constants.ts';
import { fileCalls } from './file-calls.ts';
import { inPool, type KoffiFunc, libc } from './library.ts';
import { openHow } from './structs.ts';
import { syscallNumber } from './syscalls.ts';

type Long = number | bigint;
type OpenAt2 = KoffiFunc<(number: Long, directory: Long, path: string, how: Uint8Array, size: Long) => Long>;

/** openat2 with RESOLVE_IN_ROOT fails with EAGAIN in a few of a hundred calls while others mount or rename. */
const TRIES = 3;
/** What is read at once; nearly every file asked for is smaller. */
const BLOCK_BYTES = 16 * 1024;
const MOST_AT_ONCE = 2;

let running = 0;

/**
 * The file's first `max` bytes; undefined when it is not there, is no regular file, cannot be read, the deadline (ms) passed, or too
 * many such reads hang already. `rare`: it is mostly not there, which one look at the root's names tells; a file that is not found is
 * looked for several times.
 */
export async function readInRoot(
  root: string,
  path: string,
  max: number,
  deadline: number,
  { rare = false } = {},
): Promise<Buffer | undefined> {
  if (running >= MOST_AT_ONCE) return undefined;
  running++;
  const read = readFile(root, path, max, rare).finally(() => {
    running--;
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), deadline);
  });
  try {
    return await Promise.race([read, late]);
  } finally {
    clearTimeout(timer);
  }
}

let openat2: OpenAt2 | undefined;

async function readFile(root: string, path: string, max: number, rare: boolean): Promise<Buffer | undefined> {
  if (rare && !(await has(root, path.split('/')[0] ?? ''))) return undefined;
  // On a path without any symbolic link the file lies where the text says, below the root: one call instead of two. O_NONBLOCK: a FIFO
  // in the place of the file must not hold us.
  const straight = await open(AT_FDCWD, `${root}/${path}`, O_RDONLY | O_NONBLOCK, RESOLVE_NO_SYMLINKS, 1);
  if (straight >= 0) return readOpen(straight, max);
  const { close } = fileCalls();
  const folder = await open(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0, TRIES);
  if (folder < 0) return undefined;
  try {
    const resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    const file = await open(folder, path, O_RDONLY | O_NONBLOCK, resolve, TRIES);
    return file < 0 ? undefined : await readOpen(file, max);
  } finally {
    close(folder);
  }
}

/** Closes it, too. */
async function readOpen(file: number, max: number): Promise<Buffer | undefined> {
  const { pread, close } = fileCalls();
  try {
    const parts: Buffer[] = [];
    for (let at = 0; at < max; ) {
      const block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, max - at));
      const length = Number(await inPool<Long>((done) => pread.async(file, block, block.length, at, done)));
      if (length < 0) return undefined;
      parts.push(block.subarray(0, length));
      if (length < block.length) break;
      at += length;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  } finally {
    close(file);
  }
}

/** false only where the folder is surely without such an entry. */
async function has(folder: string, name: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => undefined);
  return names?.includes(name) ?? true;
}

/** A descriptor, or a negative number. errno belongs to the pool's thread and cannot be asked for, so every failure is tried again. */
async function open(
  directory: number,
  path: string,
  flags: number,
  resolve: number,
  tries: number,
): Promise<number> {
  openat2 ??= libc().func('long syscall(long, long, const char *, void *, long)') as OpenAt2;
  const call = openat2;
  const how = openHow(flags | O_CLOEXEC, resolve).bytes;
  const number = syscallNumber('openat2', currentArch());
  let result = -1;
  for (let left = tries; result < 0 && left > 0; left--) {
    result = Number(await inPool<Long>((done) => call.async(number, directory, path, how, how.length, done)));
  }
  return result;
}
