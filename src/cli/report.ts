/** Errors and warnings of one call: standard error for people, the file of --log for programs. */
import { resolve } from 'node:path';
import { WherryError } from '../errors.ts';
import type { FlagValues } from './flags.ts';
import { appendLog, type LogFormat, logLine } from './log-file.ts';
import type { ClientSession } from './session.ts';

export class Report {
  readonly #session: ClientSession;
  readonly program: string;
  #file: string | undefined;
  #format: LogFormat = 'text';
  /** Kept back until the end: callers decode the log of a failed command as one object, its error. */
  #warnings: string[] = [];

  constructor(session: ClientSession, program: string) {
    this.#session = session;
    this.program = program;
  }

  /** Takes --log and --log-format. */
  configure(globals: FlagValues): void {
    const file = globals.text('log');
    if (file !== undefined && file !== '/dev/stderr') this.#file = resolve(this.#session.request.cwd, file);
    this.#format = globals.text('log-format') === 'json' ? 'json' : 'text';
  }

  warning(text: string): void {
    if (this.#file === undefined) this.#print('warning', `warning: ${text}`, text);
    else this.#warnings.push(logLine(this.#format, 'warning', text));
  }

  async error(error: WherryError, prefix = ''): Promise<void> {
    const text = prefix + sentence(error);
    this.#warnings = [];
    this.#print('error', text, text);
    await this.#append(logLine(this.#format, 'error', text));
  }

  async close(): Promise<void> {
    if (this.#warnings.length > 0) await this.#append(this.#warnings.join(''));
  }

  /** As runc: plain text beside a log file; without one, a caller that asked for JSON gets it on standard error. */
  #print(level: 'error' | 'warning', text: string, message: string): void {
    if (this.#file === undefined && this.#format === 'json')
      this.#session.out(2, logLine('json', level, message));
    else if (this.#file !== undefined || text.startsWith(`${this.program} `))
      this.#session.out(2, `${text}\n`);
    else this.#session.out(2, `${this.program}: ${text}\n`);
  }

  async #append(lines: string): Promise<void> {
    if (this.#file === undefined) return;
    try {
      await appendLog(this.#file, lines);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#session.out(2, `${this.program}: cannot write to --log ${this.#file}: ${reason}\n`);
    }
  }
}

/** Message, flag or field, and hint. The id is what the caller typed, so the name of its field says nothing here. */
export function sentence(error: WherryError): string {
  const { path, ...details } = error.details;
  return path === 'id' ? new WherryError(error.kind, error.message, details).describe() : error.describe();
}
