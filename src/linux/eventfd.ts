/** eventfd(2) through libc: a counter that the kernel adds to and that we look at without ever waiting. */
import { closeSync } from 'node:fs';
import { WherryError } from '../errors.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK } from './constants.ts';
import { fileCalls } from './file-calls.ts';
import { libc } from './library.ts';

export class EventFd {
  readonly descriptor: number;
  readonly #counter = Buffer.alloc(8);

  /** Throws `resource-exhausted` when the kernel gives none. */
  constructor() {
    const create = libc().func('int eventfd(unsigned int initval, int flags)');
    this.descriptor = create(0, EFD_CLOEXEC | EFD_NONBLOCK) as number;
    if (this.descriptor < 0)
      throw new WherryError('resource-exhausted', 'cannot make an eventfd', { syscall: 'eventfd2' });
  }

  /** Whether something was added since the last call. */
  take(): boolean {
    // Mostly EAGAIN, four times a second: through Node's read it would be an exception each time.
    return Number(fileCalls().read(this.descriptor, this.#counter, this.#counter.length)) === 8;
  }

  close(): void {
    closeSync(this.descriptor);
  }
}
