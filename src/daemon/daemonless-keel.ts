/** What the core asks of keel, done without it: by this process, and by the client, who plays every tape. */
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import type { Keel, ProcessExit } from '../container/keel.ts';
import type { PlayHost, PlayOptions, PlayResult } from '../container/play.ts';
import { SIGKILL } from '../linux/constants.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { isAlive, signalProcess } from '../linux/pidfd.ts';

const { O_WRONLY, O_NONBLOCK, O_NOFOLLOW } = constants;

export class DaemonlessKeel implements Keel {
  readonly kind = 'keel';
  readonly #processes = new Map<bigint, { pid: number; startTime: bigint }>();
  readonly #onExit: (exit: ProcessExit) => void;
  /** The one client of this process. */
  client: PlayHost | undefined;

  constructor(onExit: (exit: ProcessExit) => void) {
    this.#onExit = onExit;
  }

  /** A process that bears this token. */
  note(token: bigint, pid: number, startTime: bigint): void {
    this.#processes.set(token, { pid, startTime });
  }

  play(token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult> {
    if (this.client === undefined) throw new Error('no client to play');
    return this.client.play(token, tape, options);
  }

  signal(token: bigint, signal: number): Promise<number> {
    const found = this.#processes.get(token);
    if (found === undefined) return Promise.resolve(-errnoNumbers.ESRCH);
    const sent = signalProcess(found.pid, found.startTime, signal);
    // Nobody tells its end: after this signal it is awaited.
    if (signal === SIGKILL) this.#untilGone(token, found.pid, found.startTime, 1);
    return Promise.resolve(sent ? 0 : -errnoNumbers.ESRCH);
  }

  go(fifo: string): Promise<number> {
    try {
      closeSync(openSync(fifo, O_WRONLY | O_NONBLOCK | O_NOFOLLOW));
      unlinkSync(fifo);
      return Promise.resolve(0);
    } catch (error) {
      const known = error instanceof Error && 'errno' in error && typeof error.errno === 'number';
      if (!known) throw error;
      return Promise.resolve(error.errno as number);
    }
  }

  /** The client plays, and its death ends its play. */
  cancel(): Promise<number> {
    return Promise.resolve(0);
  }

  adopt(): Promise<number> {
    return Promise.resolve(-errnoNumbers.ESRCH);
  }

  closeStdin(): Promise<number> {
    return Promise.resolve(0);
  }

  release(token: bigint): Promise<number> {
    this.#processes.delete(token);
    return Promise.resolve(0);
  }

  resize(): Promise<number> {
    return Promise.resolve(-errnoNumbers.ENOTTY);
  }

  acknowledgeExit(): void {}

  #untilGone(token: bigint, pid: number, startTime: bigint, wait: number): void {
    if (isAlive(pid, startTime)) {
      setTimeout(() => this.#untilGone(token, pid, startTime, Math.min(wait * 2, 20)), wait);
      return;
    }
    this.#onExit({ token, waitStatus: SIGKILL, known: true, time: new Date() });
  }
}
