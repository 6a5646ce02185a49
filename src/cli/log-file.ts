/** The file that --log names: lines as runc writes them. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { rfc3339Seconds } from './format.ts';

export type LogFormat = 'text' | 'json';

/** One line with its newline: {"level":…,"msg":…,"time":…} or time="…" level=… msg="…". */
export function logLine(
  format: LogFormat,
  level: 'error' | 'warning',
  message: string,
  time = new Date(),
): string {
  const stamp = rfc3339Seconds(time);
  if (format === 'json') return `${JSON.stringify({ level, msg: message, time: stamp })}\n`;
  return `time="${stamp}" level=${level} msg=${JSON.stringify(message)}\n`;
}

/** Appends; never waits for a reader where the path is a FIFO. */
export async function appendLog(path: string, text: string): Promise<void> {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
  await using file = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o644);
  await file.writeFile(text);
}
