/**
 * A file's whole content in two waits for libuv's pool instead of the four of fs/promises (open, stat, read, close). Each costs two
 * switches between threads, and a container's start has so few other waits that this shows. Not on the event loop itself: the
 * file may lie on a filesystem that does not answer.
 */
import { type FileHandle, open } from 'node:fs/promises';

/** What is read at once; nearly every config.json is smaller. */
const BLOCK_BYTES = 64 * 1024;

/** @throws what open(2) and read(2) throw, as fs/promises does: EISDIR for a folder */
export async function readSmallFile(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    const [{ size }, { bytesRead }] = await Promise.all([
      file.stat(),
      file.read(block, 0, BLOCK_BYTES, null),
    ]);
    const first = block.subarray(0, bytesRead);
    // A file of /proc has no size and a growing one not yet all of it.
    return bytesRead > 0 && bytesRead === size ? first : Buffer.concat([first, ...(await rest(file))]);
  } finally {
    // Nothing depends on its end.
    void file.close().catch(() => {});
  }
}

async function rest(file: FileHandle): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for (;;) {
    const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    const { bytesRead } = await file.read(block, 0, BLOCK_BYTES, null);
    if (bytesRead === 0) return found;
    found.push(block.subarray(0, bytesRead));
  }
}
