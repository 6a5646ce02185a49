/**
 * Errors that nobody expected end wherryd: what is half changed in its memory nobody knows, and the next one takes up everything from what is
 * written down. An error that comes again and again, which a new wherryd does not help, is only told: others' containers must go on.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFileSync } from '../linux/replace-file.ts';
import type { WherrydLogger } from './log.ts';

/** sysexits.h: EX_SOFTWARE. */
const STATUS = 70;
/** So many times, within so many ms of the first, the same error ends a wherryd. */
const MOST = 3;
const WITHIN_MS = 60_000;

interface Ends {
  reason: string;
  /** Milliseconds since the epoch. */
  first: number;
  times: number;
}

/** What to call for such an error. Returns only where it is to go on. */
export function endsWith(
  runDir: string,
  log: Pick<WherrydLogger, 'error'>,
  exit: (status: number) => void = process.exit,
): (reason: unknown) => void {
  const path = join(runDir, 'unexpected.json');
  return (thrown) => {
    const reason = String(thrown);
    const fields = { error: reason, stack: thrown instanceof Error ? thrown.stack : undefined };
    const now = Date.now();
    const last = read(path);
    const again = last?.reason === reason && now - last.first < WITHIN_MS;
    const ends: Ends = again ? { ...last, times: last.times + 1 } : { reason, first: now, times: 1 };
    if (ends.times > MOST) return log.error('an unexpected error comes again and again', fields);
    try {
      replaceFileSync(path, JSON.stringify(ends));
    } catch {
      // Without room it may end more of them.
    }
    log.error('wherryd ends: an unexpected error', fields);
    exit(STATUS);
  };
}

function read(path: string): Ends | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Ends;
  } catch {
    return undefined;
  }
}
