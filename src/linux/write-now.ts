/** write(2) on the spot, for a descriptor that never blocks (O_NONBLOCK): where Node's streams queue, call back and count. */
import { fileCalls } from './file-calls.ts';

/** How many bytes were taken: 0 when it is full or broken, which the stream's own write tells apart. */
export function writeNow(descriptor: number, bytes: Uint8Array): number {
  return Math.max(Number(fileCalls().write(descriptor, bytes, bytes.length)), 0);
}
