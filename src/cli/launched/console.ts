/**
 * The ends of a detached container's streams in wherryd: its output goes to the log and to whoever is attached, their input to
 * it. keel keeps the FIFOs open meanwhile: while wherryd is away nothing is lost, and a container that writes more than a
 * pipe holds waits.
 */
import { constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { LogStore, olderOf, type StreamName } from './log-store.ts';

/** The files of a launch's folder. */
export const streamFiles = ['stdin', 'stdout', 'stderr'] as const;
const LOG = 'log';
/** The log's two. */
export const logFiles = [LOG, olderOf(LOG)] as const;
/** So much may wait to be written before a container has to. */
const MOST_PENDING = 2 ** 20;

export class Console {
  readonly log: LogStore;
  /** All output has been taken: every process that had the streams is gone. */
  readonly ended: Promise<void>;
  readonly #folder: string;
  readonly #sockets: Socket[] = [];
  #input: Socket | undefined;

  private constructor(folder: string, log: LogStore, ended: (console: Console) => Promise<void>) {
    this.#folder = folder;
    this.log = log;
    this.ended = ended(this);
    this.ended.catch(() => {});
  }

  /** Before the container opens its ends, or later: a FIFO that had no writer yet does not poll as ended (pipe(7), poll(2)). */
  static open(folder: string, onProblem: (problem: string) => void): Console {
    const log = new LogStore(join(folder, LOG), onProblem);
    return new Console(folder, log, async (self) => {
      await Promise.all((['stdout', 'stderr'] as const).map((name) => self.#take(name)));
      await log.settled();
    });
  }

  async #take(name: StreamName): Promise<void> {
    const { O_RDONLY, O_NONBLOCK } = constants;
    let descriptor: number;
    try {
      // The run folder is a tmpfs of our own: the call does not wait.
      descriptor = openSync(join(this.#folder, name), O_RDONLY | O_NONBLOCK);
    } catch {
      // A terminal has no stderr.
      return;
    }
    const socket = new Socket({ fd: descriptor, readable: true, writable: false });
    this.#sockets.push(socket);
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.on('data', (bytes: Buffer) => {
      const written = this.log.append(name, bytes);
      if (this.log.pending < MOST_PENDING) return;
      socket.pause();
      void written.finally(() => socket.resume());
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    await promise;
  }

  /** Bytes for the container's standard input. False: it has none. */
  async write(bytes: Buffer): Promise<boolean> {
    try {
      this.#input ??= this.#openInput();
    } catch {
      return false;
    }
    const input = this.#input;
    return new Promise((resolve) => {
      input.write(bytes, (error) => resolve(error === null || error === undefined));
    });
  }

  #openInput(): Socket {
    const { O_WRONLY, O_NONBLOCK } = constants;
    const descriptor = openSync(join(this.#folder, 'stdin'), O_WRONLY | O_NONBLOCK);
    const socket = new Socket({ fd: descriptor, readable: false, writable: true });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#input === socket) this.#input = undefined;
    });
    return socket;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#input?.destroy();
  }
}
