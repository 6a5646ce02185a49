/** Overwriting a part of a file in place, which the run folder's filesystem may have no room for. */
import { ftruncateSync, writeSync } from 'node:fs';

/** One pwrite(2). @throws what it throws, and ENOSPC where only a part found room: then the file has its old `end` (bytes) again. */
export function writeWhole(file: number, bytes: Uint8Array, at: number, end: number): void {
  if (writeSync(file, bytes, 0, bytes.length, at) === bytes.length) return;
  if (at + bytes.length > end) ftruncateSync(file, end);
  throw new Error('ENOSPC: no space left on device');
}
