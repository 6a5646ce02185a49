/**
 * FIFOs of a process whose making is undone and begun anew. Its caller reads them from before the first try, and would see their end, and read no
 * more, in the moment when nobody has them open between the two (fifo(7)).
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { StdioPaths } from './types.ts';

/** Calls that are repeated come right after wherryd is ready. */
const LONGEST_MS = 5000;

/**
 * Opens those of `stdio` that are FIFOs, both ways, which does not wait for anybody. They are closed by the returned function, at the latest after
 * five seconds: the caller of one that nobody makes again shall see its end.
 */
export async function keepStreams({ stdin, stdout, stderr }: StdioPaths): Promise<() => void> {
  const paths = [...new Set([stdin, stdout, stderr])].map((text) => text.replace(/^fifo:\/\//, ''));
  const opened = await Promise.all(paths.filter((path) => path.startsWith('/')).map(openFifo));
  const letGo = () => {
    clearTimeout(timer);
    for (const handle of opened.splice(0)) void handle?.close().catch(() => {});
  };
  const timer = setTimeout(letGo, LONGEST_MS);
  timer.unref();
  return letGo;
}

async function openFifo(path: string): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  if ((await handle.stat()).isFIFO()) return handle;
  await handle.close();
  return undefined;
}
