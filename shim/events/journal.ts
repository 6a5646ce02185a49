/**
 * Events on disk, `<run>/events`: written before they are delivered, so that the death of wherryd loses none. One JSON line each, and one
 * for each delivery. It also knows which events of a living container were told, so that none is told twice by a wherryd that took it up.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { keyName } from '../../src/container/key.ts';
import type { ContainerKey, ExitInfo, RuntimeEvent } from '../../src/container/types.ts';
import { boundary } from '../../src/fault.ts';
import { replaceFileSync } from '../../src/linux/replace-file.ts';
import type { Logger } from '../log.ts';
import { decodeEvent, type EncodedEvent } from './envelope.ts';

export interface PendingEvent {
  sequence: number;
  address: string;
  scope: string;
  event: EncodedEvent;
}

interface EventLine {
  n: number;
  type: RuntimeEvent['type'];
  key: ContainerKey;
  /** When the container was created, in ms since the epoch: its id may be used again. Absent in files of earlier versions. */
  life?: number;
  address: string;
  /** base64 of the envelope. */
  event: string;
  /** When, in ms since the epoch; and of a deletion what Delete answers. */
  at: number;
  exit?: Omit<ExitInfo, 'exitedAt'> & { exitedAt: string };
}

interface DoneLine {
  done: number;
}

interface ToldLine {
  key: ContainerKey;
  life?: number | undefined;
  told: RuntimeEvent['type'][];
}

type Line = EventLine | DoneLine | ToldLine;

const COMPACT_BYTES = 1 << 20;
/** Answers of Delete that may be asked for again. */
const DELETED_MS = 60_000;
const ONCE: ReadonlySet<RuntimeEvent['type']> = new Set(['created', 'started', 'exited', 'deleted']);
/** Each comes only after the other. */
const TURNS: ReadonlySet<RuntimeEvent['type']> = new Set(['paused', 'resumed']);

export class EventJournal {
  readonly #path: string;
  readonly #log: Logger;
  readonly #waiting = new Map<number, EventLine>();
  readonly #told = new Map<string, ToldLine>();
  #deleted: EventLine[] = [];
  #file: number;
  #bytes = 0;
  /** The size after the last rewrite: what waits may be more than the limit. */
  #floor = 0;
  #next = 1;
  /** The last line was written in part: there was no room. */
  #torn = false;

  constructor(runDir: string, log: Logger) {
    this.#path = join(runDir, 'events');
    this.#log = log;
    this.#read();
    this.#file = this.#rewrite();
  }

  /** Those that an earlier wherryd has not delivered, in order. */
  pending(): PendingEvent[] {
    return [...this.#waiting.values()].map(({ n, address, key, event }) => ({
      sequence: n,
      address,
      scope: key.scope,
      event: decodeEvent(Buffer.from(event, 'base64')),
    }));
  }

  /** Containers that were deleted a short while ago and not made again since, and what Delete answers. */
  deleted(): { key: ContainerKey; exit: ExitInfo }[] {
    const made = ({ key }: EventLine): boolean =>
      this.#told.get(keyName(key))?.told.includes('deleted') === false;
    return this.#deleted.flatMap((line) =>
      line.exit === undefined || made(line)
        ? []
        : [{ key: line.key, exit: { ...line.exit, exitedAt: new Date(line.exit.exitedAt) } }],
    );
  }

  /** True for an event that comes once in a container's life and has come, and for what is so already (paused, resumed). */
  has(event: RuntimeEvent): boolean {
    const entry = this.#told.get(keyName(event.state.key));
    if (entry?.told.includes(event.type) !== true) return false;
    if (entry.life !== undefined) return entry.life === event.state.createdAt.getTime();
    return event.type !== 'created' || !entry.told.includes('deleted');
  }

  /** Its number, for `delivered`. */
  add(event: RuntimeEvent, address: string, { bytes }: EncodedEvent): number {
    const line: EventLine = {
      n: this.#next++,
      type: event.type,
      key: event.state.key,
      life: event.state.createdAt.getTime(),
      address,
      event: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64'),
      at: Date.now(),
      ...(event.type === 'deleted' && {
        exit: { ...event.exit, exitedAt: event.exit.exitedAt.toISOString() },
      }),
    };
    this.#take(line);
    boundary('event', event.type);
    this.#append(line);
    boundary('event written', event.type);
    return line.n;
  }

  delivered(sequence: number): void {
    if (!this.#waiting.delete(sequence)) return;
    this.#append({ done: sequence });
    boundary('event done');
    // Rewritten when half of it is past: a long list of what waits is not copied for each megabyte.
    if (this.#bytes > this.#floor + Math.max(COMPACT_BYTES, this.#floor)) {
      closeSync(this.#file);
      this.#file = this.#rewrite();
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #take(line: EventLine): void {
    this.#waiting.set(line.n, line);
    if (line.type === 'deleted') this.#deleted.push(line);
    if (!ONCE.has(line.type) && !TURNS.has(line.type)) return;
    const name = keyName(line.key);
    if (line.type === 'created') this.#told.delete(name);
    const entry = this.#told.get(name) ?? { key: line.key, life: line.life, told: [] };
    if (TURNS.has(line.type)) entry.told = entry.told.filter((type) => !TURNS.has(type));
    entry.told.push(line.type);
    this.#told.set(name, entry);
  }

  #append(line: Line): void {
    const text = Buffer.from(`${this.#torn ? '\n' : ''}${JSON.stringify(line)}\n`);
    this.#bytes += text.length;
    try {
      // A part of a line is closed by the next one's.
      this.#torn = writeSync(this.#file, text) < text.length;
      if (this.#torn) throw new Error('ENOSPC: no space left on device');
    } catch (error) {
      this.#log.error('an event cannot be written down', { path: this.#path, error: String(error) });
    }
  }

  #read(): void {
    let text = '';
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch {
      return;
    }
    for (const part of text.split('\n')) {
      if (part === '') continue;
      try {
        const line = JSON.parse(part) as Line;
        if ('done' in line) this.#waiting.delete(line.done);
        else if ('told' in line) this.#told.set(keyName(line.key), line);
        else {
          this.#take(line);
          this.#next = Math.max(this.#next, line.n + 1);
        }
      } catch (error) {
        this.#log.warn('a line of the event journal is damaged', { path: this.#path, error: String(error) });
      }
    }
  }

  /** Only what still matters, in a new file that takes the old one's place. */
  #rewrite(): number {
    const since = Date.now() - DELETED_MS;
    this.#deleted = this.#deleted.filter((line) => line.at > since);
    for (const [name, { told }] of this.#told) {
      if (told.includes('deleted') && !this.#deleted.some(({ key }) => keyName(key) === name))
        this.#told.delete(name);
    }
    const recent = this.#deleted.filter(({ n }) => !this.#waiting.has(n));
    const lines: Line[] = [
      ...recent.flatMap((line): Line[] => [line, { done: line.n }]),
      // Also of those that were deleted just now: their state directories may still be there when this process dies.
      ...this.#told.values(),
      ...this.#waiting.values(),
    ];
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    try {
      replaceFileSync(this.#path, text);
      this.#torn = false;
    } catch (error) {
      // Without room for both the old one does: it only holds more.
      this.#log.error('the event journal cannot be rewritten', { path: this.#path, error: String(error) });
    }
    this.#bytes = this.#floor = text.length;
    return openSync(this.#path, 'a', 0o600);
  }
}
