/**
 * Where a test may end this process, or make a step of it fail (docs/robustness.md). WHERRY_FAULT is a folder; keel hands the variable on
 * only when it was started with `--fault`.
 *
 * - A file that is named as a point of `faultPoints` arms that point once; its content is the signal's number (empty: 9).
 * - `next`, lines of `N ACT`: the first line's act is done at the N-th boundary from the moment at which the file is first seen; what is left
 *   of the file is for the next boundaries, of this process or of its successor. N = 0: never. While the file is there each boundary appends
 *   its name to `passed`, and `struck` gets a line for each act. Boundaries are these points, and all that `boundary` is called for.
 *   Acts: `kill` (SIGKILL), `stop` (SIGSTOP), `throw`, `heap` (all memory that V8 may have is taken).
 */
import { appendFileSync, existsSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';

export const faultPoints = [
  'create.claimed',
  'create.intent',
  'create.played',
  'create.saved',
  'create.told',
  'undo.cancelled',
  'start.begun',
  'start.gone',
  'start.told',
  'pause.begun',
  'pause.frozen',
  'pause.told',
  'resume.begun',
  'resume.thawed',
  'resume.told',
  'update.begun',
  'update.intent',
  'update.written',
  'kill.begun',
  'kill.sent',
  'exit.saved',
  'delete.begun',
  'delete.removed',
  'delete.told',
  'delete.forgotten',
  'exec.recorded',
  'exec.begun',
  'exec.played',
  'exec.told',
  'answer',
  'ready',
] as const;

export type FaultPoint = (typeof faultPoints)[number];

export const faultActs = ['kill', 'stop', 'throw', 'heap'] as const;
export type FaultAct = (typeof faultActs)[number];

const folder = process.env['WHERRY_FAULT'];

/** Nothing, unless the point is armed: then a signal that ends the process before the next line. */
export const fault: (point: FaultPoint) => void =
  folder === undefined ? () => {} : (point) => strike(folder, point);

/** Between two steps that every act consists of: frames, files, calls. `what` says which of the kind. */
export const boundary: (step: string, what?: string | number) => void =
  folder === undefined
    ? () => {}
    : (step, what) => pass(folder, what === undefined ? step : `${step} ${what}`);

function strike(dir: string, point: FaultPoint): void {
  pass(dir, point);
  const file = `${dir}/${point}`;
  if (!existsSync(file)) return;
  const signal = Number(readFileSync(file, 'latin1')) || 9;
  unlinkSync(file);
  process.kill(process.pid, signal);
}

/** What `next` said when it was last read, and how many boundaries have passed since. */
let armed = '';
let passed = 0;

function pass(dir: string, name: string): void {
  let text: string;
  try {
    text = readFileSync(`${dir}/next`, 'latin1');
  } catch {
    armed = '';
    return;
  }
  if (text !== armed) {
    armed = text;
    passed = 0;
  }
  appendFileSync(`${dir}/passed`, `${name}\n`);
  const [first = '', ...rest] = text.split('\n');
  const [n, act] = first.split(' ');
  if (++passed !== Number(n)) return;
  if (rest.join('').trim() === '') unlinkSync(`${dir}/next`);
  else {
    writeFileSync(`${dir}/.next`, rest.join('\n'));
    renameSync(`${dir}/.next`, `${dir}/next`);
  }
  appendFileSync(`${dir}/struck`, `${act} ${name}\n`);
  armed = '';
  if (act === 'throw') throw new Error(`a fault is injected: ${name}`);
  if (act === 'heap') takeAllMemory();
  process.kill(process.pid, act === 'stop' ? 'SIGSTOP' : 'SIGKILL');
}

function takeAllMemory(): void {
  for (const taken: unknown[] = []; ; ) taken.push(new Array(1 << 16).fill({}));
}
