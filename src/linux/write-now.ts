/** write(2) on the spot, for a descriptor that never blocks (O_NONBLOCK): where Node's streams queue, call back and count. */
import { type KoffiFunc, libc } from './library.ts';

type Write = KoffiFunc<(fd: number, bytes: Uint8Array, count: number) => number | bigint>;

let call: Write | undefined;

/** How many bytes were taken: 0 when it is full or broken, which the stream's own write tells apart. */
export function writeNow(descriptor: number, bytes: Uint8Array): number {
  call ??= libc().func('long write(int, const void *, long)') as Write;
  return Math.max(Number(call(descriptor, bytes, bytes.length)), 0);
}
