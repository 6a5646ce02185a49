/**
 * FIFOs of a process whose making is undone and begun anew. Its caller reads them from before the first try, and would see their end, and read no
 * more, in the moment when nobody has them open between the two (fifo(7)).
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { planStream } from './stdio.ts';
import type { StdioPaths } from './types.ts';

/** Opens those of `stdio` that are FIFOs, both ways, which does not wait for anybody. The returned function closes them. */
export async function keepStreams({ stdin, stdout, stderr }: StdioPaths): Promise<() => void> {
  const opened = await Promise.all([...new Set([stdin, stdout, stderr])].map(openFifo));
  return () => {
    for (const handle of opened.splice(0)) void handle?.close().catch(() => {});
  };
}

async function openFifo(text: string): Promise<FileHandle | undefined> {
  try {
    const target = await planStream('stream', text);
    return target.type === 'fifo'
      ? await open(target.path, constants.O_RDWR | constants.O_NONBLOCK)
      : undefined;
  } catch {
    // A logger's, or gone meanwhile.
    return undefined;
  }
}
