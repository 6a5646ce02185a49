/** Programs that take containers' output (binary://): keel's children like containers, but nobody's containers. */
import { SIGKILL, SIGTERM } from '../linux/constants.ts';
import type { Keel, ProcessExit } from './keel.ts';

/** After the end of its input a good logger ends by itself, with nothing lost. */
const OWN_END_MS = 500;
/** containerd's own time for the rest. */
const TERM_MS = 12_000;

export class Loggers {
  readonly #keel: Keel;
  readonly #waiting = new Map<bigint, () => void>();

  constructor(keel: Keel) {
    this.#keel = keel;
  }

  /** From keel. True: somebody waited for it. Exits of other loggers are nobody's and acknowledged as such. */
  onExit(exit: ProcessExit): boolean {
    const ended = this.#waiting.get(exit.token);
    ended?.();
    if (ended !== undefined) this.#keel.acknowledgeExit(exit.token);
    return ended !== undefined;
  }

  /** Resolves when it has gone: by itself, by SIGTERM, or by SIGKILL after 12 s. */
  async stop(token: bigint): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(token, resolve);
    try {
      if ((await this.#keel.signal(token, 0)) < 0) return;
      if (await within(promise, OWN_END_MS)) return;
      await this.#keel.signal(token, SIGTERM);
      if (await within(promise, TERM_MS)) return;
      await this.#keel.signal(token, SIGKILL);
    } finally {
      this.#waiting.delete(token);
      await this.#keel.release(token);
    }
  }

  /** Of a create that failed. */
  async kill(token: bigint): Promise<void> {
    await this.#keel.signal(token, SIGKILL);
    await this.#keel.release(token);
  }
}

async function within(promise: Promise<void>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
