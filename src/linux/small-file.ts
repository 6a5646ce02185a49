/**
 * A file's whole content in two waits for libuv's pool instead of the four of fs/promises (open, stat, read, close). Each costs two
 * switches between threads, and a container's start has so few other waits that this shows; so do the objects that fs/promises
 * puts around a descriptor. Not on the event loop itself: the file may lie on a filesystem that does not answer.
 */
import { close, fstat, open, read } from 'node:fs';

/** What is read at once; nearly every config.json is smaller. */
const BLOCK_BYTES = 64 * 1024;

/** @throws what open(2) and read(2) throw, as fs/promises does: EISDIR for a folder */
export function readSmallFile(path: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    open(path, 'r', (error, file) => {
      if (error !== null) reject(error);
      else
        readAll(file)
          .then(resolve, reject)
          // Nothing depends on its end.
          .finally(() => close(file, () => {}));
    });
  });
}

async function readAll(file: number): Promise<Buffer> {
  const [size, first] = await Promise.all([sizeOf(file), readBlock(file)]);
  // A file of /proc has no size and a growing one not yet all of it.
  if (first.length > 0 && first.length === size) return first;
  const found = [first];
  for (;;) {
    const block = await readBlock(file);
    if (block.length === 0) return Buffer.concat(found);
    found.push(block);
  }
}

function sizeOf(file: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fstat(file, (error, stats) => (error === null ? resolve(stats.size) : reject(error)));
  });
}

function readBlock(file: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    read(file, block, 0, BLOCK_BYTES, null, (error, length) =>
      error === null ? resolve(block.subarray(0, length)) : reject(error),
    );
  });
}
