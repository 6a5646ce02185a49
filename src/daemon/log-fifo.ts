/** The log FIFO that containerd makes in a bundle. Its reader may be slow or gone: a line is dropped, never waited for. */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';

/** Up to PIPE_BUF a write to a pipe is whole or not at all (pipe(7)). */
const PIPE_BUF = 4096;
const CUT = '…\n';

export class LogFifo {
  readonly #path: string;
  #descriptor: number | undefined;
  #closed = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** `line` without its newline; false when it was dropped. Never throws, never blocks. */
  write(line: string): boolean {
    const descriptor = this.#open();
    if (descriptor === undefined) return false;
    try {
      writeSync(descriptor, cut(`${line}\n`));
      return true;
    } catch (error) {
      // EAGAIN: full. Anything else, such as EPIPE, ends this descriptor; the next line looks for a new reader.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') this.#drop();
      return false;
    }
  }

  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #open(): number | undefined {
    if (this.#closed || this.#descriptor !== undefined) return this.#descriptor;
    try {
      const { O_WRONLY, O_NONBLOCK, O_NOFOLLOW } = constants;
      const descriptor = openSync(this.#path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
      if (fstatSync(descriptor).isFIFO()) {
        this.#descriptor = descriptor;
      } else {
        closeSync(descriptor);
        this.#closed = true;
      }
    } catch {
      // ENXIO: nobody reads. ENOENT: the bundle has gone.
    }
    return this.#descriptor;
  }

  #drop(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

function cut(line: string): Buffer {
  const bytes = Buffer.from(line);
  if (bytes.length <= PIPE_BUF) return bytes;
  const end = Buffer.from(CUT);
  return Buffer.concat([bytes.subarray(0, PIPE_BUF - end.length), end]);
}
