/**
 * wherryd's log: lines on stderr through winston; what concerns a container of containerd also goes to its bundle's log
 * FIFO. winston takes 25 to 50 ms to load, longer than a container takes to start, so it is loaded once wherryd has been
 * serving for a moment; until then lines wait, and are written even when the process ends first. A reader of
 * stderr that does not keep up loses lines; it never stops the daemon.
 */
import { writeSync } from 'node:fs';
import type { LogFormat, LogLevel, WherrydConfig } from './config.ts';
import { LogFifo } from './log-fifo.ts';
import { formatLine, type LogEntry, type LogSink } from './log-format.ts';

/** Usual fields: namespace, id, request. Environment and arguments are left out above debug. */
export type LogFields = Record<string, unknown>;

export interface WherrydLogger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** For lines that are costly to make. */
  isEnabled(level: LogLevel): boolean;
  /** A logger whose lines carry these fields, too; its own win. */
  child(fields: LogFields): WherrydLogger;
  /** From now on every line with this namespace and id is also written to `<bundle>/log`; call the result at delete. */
  follow(container: { namespace: string; id: string }, bundle: string): () => void;
}

export interface LoggerOptions extends Pick<WherrydConfig, 'logLevel' | 'logFormat'> {
  /** A descriptor; 2. */
  output?: number;
  /** Loads the real sink; tests give their own. */
  load?: (format: LogFormat, output: number) => Promise<LogSink>;
}

const SEVERITY: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };
/** Until winston is loaded; the first requests are served in this time. */
const LOAD_AFTER_MS = 250;
const MOST_WAITING = 1000;

export function createLogger(options: LoggerOptions): WherrydLogger {
  return new ContainerLogger(new LogCore(options), {});
}

/** What all children of a logger share. */
class LogCore {
  readonly #level: number;
  readonly #format: LogFormat;
  readonly #output: number;
  readonly #load: NonNullable<LoggerOptions['load']>;
  readonly #fifos = new Map<string, Set<LogFifo>>();
  #sink: LogSink | undefined;
  #waiting: LogEntry[] = [];

  constructor({ logLevel, logFormat, output = 2, load = loadWinston }: LoggerOptions) {
    this.#level = SEVERITY[logLevel];
    this.#format = logFormat;
    this.#output = output;
    this.#load = load;
    setTimeout(() => void this.#attachSink(), LOAD_AFTER_MS).unref();
    process.on('exit', () => this.#writeWaiting());
  }

  isEnabled(level: LogLevel): boolean {
    return SEVERITY[level] <= this.#level;
  }

  log(entry: LogEntry): void {
    const { namespace, id } = entry.fields;
    const fifos = this.#fifos.get(nameOf(namespace, id));
    if (fifos !== undefined) {
      const line = formatLine(entry, 'logfmt');
      for (const fifo of fifos) fifo.write(line);
    }
    if (this.#sink !== undefined) this.#sink.write(entry);
    else if (this.#waiting.push(entry) >= MOST_WAITING) this.#writeWaiting();
  }

  follow(namespace: string, id: string, path: string): () => void {
    const name = nameOf(namespace, id);
    const fifo = new LogFifo(path);
    const fifos = this.#fifos.get(name) ?? new Set();
    this.#fifos.set(name, fifos.add(fifo));
    return () => {
      fifo.close();
      fifos.delete(fifo);
      if (fifos.size === 0 && this.#fifos.get(name) === fifos) this.#fifos.delete(name);
    };
  }

  async #attachSink(): Promise<void> {
    let sink: LogSink;
    try {
      sink = await this.#load(this.#format, this.#output);
    } catch (error) {
      sink = { write: (entry) => this.#writeDirectly(entry) };
      sink.write(entryOf('error', 'winston cannot be loaded; the log goes on without it', { error }));
    }
    for (const entry of this.#waiting.splice(0)) sink.write(entry);
    this.#sink = sink;
  }

  #writeWaiting(): void {
    for (const entry of this.#waiting.splice(0)) this.#writeDirectly(entry);
  }

  #writeDirectly(entry: LogEntry): void {
    try {
      writeSync(this.#output, `${formatLine(entry, this.#format)}\n`);
    } catch {
      // A log that cannot be written must not take the daemon with it.
    }
  }
}

class ContainerLogger implements WherrydLogger {
  readonly #core: LogCore;
  readonly #fields: LogFields;

  constructor(core: LogCore, fields: LogFields) {
    this.#core = core;
    this.#fields = fields;
  }

  error(message: string, fields?: LogFields): void {
    this.#log('error', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log('warn', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log('info', message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.#log('debug', message, fields);
  }

  isEnabled(level: LogLevel): boolean {
    return this.#core.isEnabled(level);
  }

  child(fields: LogFields): WherrydLogger {
    return new ContainerLogger(this.#core, { ...this.#fields, ...fields });
  }

  follow({ namespace, id }: { namespace: string; id: string }, bundle: string): () => void {
    return this.#core.follow(namespace, id, `${bundle}/log`);
  }

  #log(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (this.#core.isEnabled(level)) this.#core.log(entryOf(level, message, { ...this.#fields, ...fields }));
  }
}

function entryOf(level: LogLevel, message: string, fields: LogFields): LogEntry {
  return { time: new Date(), level, message, fields };
}

const nameOf = (namespace: unknown, id: unknown) => `${String(namespace)}/${String(id)}`;

async function loadWinston(format: LogFormat, output: number): Promise<LogSink> {
  const { winstonSink } = await import('./log-winston.ts');
  return winstonSink(format, output);
}
