/**
 * Lines of the log. Keys, level names and quoting are those of logrus, which containerd's own log is made with, so that
 * one parser reads both.
 */
import type { LogFormat, LogLevel } from './config.ts';

export interface LogEntry {
  time: Date;
  level: LogLevel;
  message: string;
  fields: Readonly<Record<string, unknown>>;
}

/** Where entries go. */
export interface LogSink {
  write(entry: LogEntry): void;
}

/** May hold secrets: shown at debug only, at whatever depth they are. */
const PRIVATE = new Set(['env', 'environ', 'environment', 'args', 'argv', 'cmdline']);
const HEAD = new Set(['time', 'level', 'msg']);

/** One line without its newline. Never throws. */
export function formatLine(entry: LogEntry, format: LogFormat): string {
  const level = entry.level === 'warn' ? 'warning' : entry.level;
  const time = entry.time.toISOString();
  const fields = printable(entry);
  if (format === 'json')
    return JSON.stringify({ time, level, msg: entry.message, ...Object.fromEntries(fields) });
  const pairs = fields.map(([key, value]) => ` ${key.replaceAll(/[^\w.-]/g, '_')}=${quoted(textOf(value))}`);
  return `time="${time}" level=${level} msg=${quoted(entry.message)}${pairs.join('')}`;
}

function printable({ level, fields }: LogEntry): [string, unknown][] {
  const visible = (key: string) => level === 'debug' || !PRIVATE.has(key.toLowerCase());
  const entries: [string, unknown][] = [];
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined || !visible(key)) continue;
    entries.push([HEAD.has(key) ? `fields.${key}` : key, plain(value, visible)]);
  }
  return entries;
}

/** A value that JSON can say. */
function plain(value: unknown, visible: (key: string) => boolean): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Error) return value.message;
  if (typeof value !== 'object' || value === null) return value;
  try {
    const text = JSON.stringify(value, (key, inner: unknown) => {
      if (!visible(key)) return undefined;
      if (typeof inner === 'bigint') return String(inner);
      return inner instanceof Error ? inner.message : inner;
    });
    return JSON.parse(text) as unknown;
  } catch {
    // It refers to itself, or its toJSON throws.
    return String(Object.prototype.toString.call(value));
  }
}

const textOf = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value));

/** logrus leaves these bare. Control characters are always escaped, so an entry is always one line. */
function quoted(text: string): string {
  return /^[A-Za-z0-9\-._/@^+]+$/.test(text) ? text : JSON.stringify(text);
}
