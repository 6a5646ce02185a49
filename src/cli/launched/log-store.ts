/**
 * What a detached container has written, as lines of `TIME STREAM TAG TEXT` (CRI's log format): TAG is F, or P where the line
 * goes on in the next record of that stream. Kept in two files, the older of which goes when the newer is full.
 */
import { appendFile, readFile, rename, stat, unlink } from 'node:fs/promises';

export type StreamName = 'stdout' | 'stderr';

export interface LogRecord {
  /** RFC 3339. */
  time: string;
  stream: StreamName;
  /** Ends with a newline unless the line goes on. */
  bytes: Buffer;
}

/** Bytes of one file. */
export const LOG_LIMIT = 4 * 2 ** 20;
const NEWLINE = 10;

/** The file to which the newer one is renamed when it is full. */
export function olderOf(path: string): string {
  return `${path}.1`;
}

export class LogStore {
  readonly #path: string;
  readonly #limit: number;
  readonly #onProblem: (problem: string) => void;
  readonly #followers = new Set<(record: LogRecord) => void>();
  /** Everything that touches the files, one after the other. */
  #queue: Promise<void> = Promise.resolve();
  #size: number | undefined;
  #pending = 0;
  #closed = false;

  /** `onProblem` hears of a disk that takes nothing; the container goes on. */
  constructor(path: string, onProblem: (problem: string) => void, limit = LOG_LIMIT) {
    this.#path = path;
    this.#limit = limit;
    this.#onProblem = onProblem;
  }

  /** Bytes that are not written yet. */
  get pending(): number {
    return this.#pending;
  }

  append(stream: StreamName, bytes: Buffer, now = new Date()): Promise<void> {
    const records = split(stream, bytes, now.toISOString());
    this.#pending += bytes.length;
    return this.#next(async () => {
      this.#pending -= bytes.length;
      if (this.#closed) return;
      for (const record of records) for (const told of this.#followers) told(record);
      try {
        await this.#write(Buffer.concat(records.map(encode)));
      } catch (error) {
        this.#onProblem(`${this.#path}: ${error instanceof Error ? error.message : String(error)}`);
      }
    });
  }

  /** What is kept, then, until the returned function is called, all that comes; nothing in between is lost or told twice. `tail`: the last lines only. */
  async follow(tail: number | undefined, onRecord: (record: LogRecord) => void): Promise<() => void> {
    const stop = () => void this.#followers.delete(onRecord);
    await this.#next(async () => {
      for (const record of await this.#read(tail)) onRecord(record);
      this.#followers.add(onRecord);
    });
    return stop;
  }

  /** Resolves when all that was appended before is written. */
  settled(): Promise<void> {
    return this.#next(async () => {});
  }

  /** Removes the files. */
  async remove(): Promise<void> {
    this.#closed = true;
    await this.#next(async () => {
      for (const path of [this.#path, olderOf(this.#path)]) await unlink(path).catch(() => {});
    });
  }

  #next(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {});
    return done;
  }

  async #write(bytes: Buffer): Promise<void> {
    this.#size ??= await stat(this.#path).then(
      ({ size }) => size,
      () => 0,
    );
    if (this.#size > 0 && this.#size + bytes.length > this.#limit) {
      await rename(this.#path, olderOf(this.#path));
      this.#size = 0;
    }
    await appendFile(this.#path, bytes, { mode: 0o600 });
    this.#size += bytes.length;
  }

  async #read(tail: number | undefined): Promise<LogRecord[]> {
    const nothing = () => Buffer.alloc(0);
    const older = await readFile(olderOf(this.#path)).catch(nothing);
    const records = [...decode(older), ...decode(await readFile(this.#path).catch(nothing))];
    return tail === undefined ? records : lastLines(records, tail);
  }
}

function split(stream: StreamName, bytes: Buffer, time: string): LogRecord[] {
  const records: LogRecord[] = [];
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from);
    const to = newline < 0 ? bytes.length : newline + 1;
    records.push({ time, stream, bytes: bytes.subarray(from, to) });
    from = to;
  }
  return records;
}

function whole({ bytes }: LogRecord): boolean {
  return bytes.at(-1) === NEWLINE;
}

function encode(record: LogRecord): Buffer {
  const { time, stream, bytes } = record;
  const text = whole(record) ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]);
  return Buffer.concat([Buffer.from(`${time} ${stream} ${whole(record) ? 'F' : 'P'} `), text]);
}

/** Exported for tests. A line that was torn by a loss of power is passed over. */
export function decode(file: Buffer): LogRecord[] {
  const records: LogRecord[] = [];
  for (let from = 0; from < file.length; ) {
    const newline = file.indexOf(NEWLINE, from);
    const line = file.subarray(from, newline < 0 ? file.length : newline + 1);
    from += line.length;
    const head = /^(\S+) (stdout|stderr) ([FP]) /.exec(line.subarray(0, 64).toString('latin1'));
    if (head === null) continue;
    const text = line.subarray(head[0].length);
    const bytes = head[3] === 'F' ? text : text.subarray(0, -1);
    records.push({ time: head[1]!, stream: head[2] as StreamName, bytes });
  }
  return records;
}

/** The records of the last `count` lines; a line that goes on counts once. */
export function lastLines(records: readonly LogRecord[], count: number): LogRecord[] {
  let from = records.length;
  for (let lines = 0; from > 0; from -= 1) {
    const record = records[from - 1]!;
    const ends = whole(record) || from === records.length;
    if (ends && ++lines > count) break;
  }
  return records.slice(from);
}
