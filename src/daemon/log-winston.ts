/** winston as the log's sink: levels, our line format, and the transport to stderr. Loaded late (log.ts). */
import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { createLogger, format as formats, transports } from 'winston';
import type { LogFormat } from './config.ts';
import { formatLine, type LogEntry, type LogSink } from './log-format.ts';

/** triple-beam's MESSAGE, which transports print. */
const MESSAGE = Symbol.for('message');

/** Our line format as a winston format; the entry travels in `entry`, so that winston adds and renames nothing. */
const wherryLine = formats((info, options) => {
  const { style } = options as { style: LogFormat };
  info[MESSAGE] = formatLine(info['entry'] as LogEntry, style);
  return info;
});

export function winstonSink(style: LogFormat, output: number): LogSink {
  const stream = new Writable({
    decodeStrings: false,
    // Synchronous, as process.stderr is for files and pipes: a line must be there when the process dies after it.
    write(line: string, _encoding, done) {
      try {
        writeSync(output, line);
      } catch {
        // A full or closed log must not take the daemon with it.
      }
      done();
    },
  });
  const logger = createLogger({
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
    // What is too fine has already been left out.
    level: 'debug',
    format: wherryLine({ style }),
    transports: [new transports.Stream({ stream, eol: '\n' })],
  });
  return {
    write(entry) {
      logger.log({ level: entry.level, message: entry.message, entry });
    },
  };
}
