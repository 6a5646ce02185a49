/** What became of a conversation with criu: its answer, and in the words of its log why it failed. */
import { open } from 'node:fs/promises';
import { WherryError } from '../../errors.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { SLOTS_OFFSET } from '../../tape/format.ts';
import { playError } from '../../tape/outcome.ts';
import { ANSWER_BYTES, AnswerSlot } from '../compile/criu.ts';
import { explainHookError } from '../hooks.ts';
import type { PlayResult } from '../play.ts';
import { type CriuAnswer, decodeAnswer, RequestType } from './message.ts';

/** Told as errors by criu, which goes on. */
const harmless = /rlimit: Can't setup|tables-\w+ -V failed|execvp\("ip6?tables|: exited, status/;
/** As much of the log's end as is looked through. */
const LOG_END = 256 * 1024;
/** The last lines say what the first error led to; the cause is mostly among the last few. */
const LINES = 4;

/** undefined: criu had not answered when the play ended. */
export function answerOf({ page }: PlayResult): CriuAnswer | undefined {
  const view = Buffer.from(page.buffer, page.byteOffset, page.byteLength);
  const length = Number(view.readBigUInt64LE(SLOTS_OFFSET + AnswerSlot.LENGTH * 8));
  if (length <= 0) return undefined;
  const start = SLOTS_OFFSET + AnswerSlot.BYTES * 8;
  return decodeAnswer(view.subarray(start, start + Math.min(length, ANSWER_BYTES)));
}

/** The error of a play, or undefined when criu did what it was asked for. `log`: absolute path. */
export async function criuFailure(
  tape: AssembledTape,
  result: PlayResult,
  log: string,
): Promise<WherryError | undefined> {
  const played = playError(tape, result);
  const answer = answerOf(result);
  if (played !== undefined) {
    const error = explainHookError(played, result.page);
    const silent = error.details.step === 'criu ended before it had answered';
    if (!silent) return error;
    return failed('criu failed: it ended before it had answered', await errorLines(log), log);
  }
  if (answer?.success === true) return undefined;
  const type = Object.entries(RequestType).find(([, number]) => number === answer?.type)?.[0] ?? 'unknown';
  return failed(`criu failed: type ${type} errno ${answer?.errno ?? 0}`, await errorLines(log), log);
}

function failed(head: string, lines: readonly string[], log: string): WherryError {
  const text = lines.length === 0 ? head : `${head}: ${lines.join('; ')}`;
  return new WherryError('failed-precondition', text, { hint: `log file: ${log}` });
}

/** Last lines of criu's log that tell of errors, without their times, and without those that end nothing. */
export async function errorLines(path: string): Promise<string[]> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const from = Math.max(0, size - LOG_END);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
    return buffer
      .toString('utf8', 0, bytesRead)
      .split('\n')
      .filter((line) => /Error \(/.test(line) && !harmless.test(line))
      .slice(-LINES)
      .map((line) => line.replace(/^\(\d+\.\d+\)\s*(?:\d+:\s*)?Error \([^)]*\):\s*/, '').trim());
  } catch {
    return [];
  }
}
