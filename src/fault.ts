/**
 * Named points at which a test may end this process (docs/robustness.md). WHERRY_FAULT is a folder; a file in it that is named as a point
 * arms that point once, its content is the signal's number (empty: 9). keel hands the variable on only when it was started with --fault.
 */
import { existsSync, readFileSync, unlinkSync } from 'node:fs';

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

const folder = process.env['WHERRY_FAULT'];

/** Nothing, unless the point is armed: then a signal that ends the process before the next line. */
export const fault: (point: FaultPoint) => void =
  folder === undefined ? () => {} : (point) => strike(folder, point);

function strike(folder: string, point: FaultPoint): void {
  const file = `${folder}/${point}`;
  if (!existsSync(file)) return;
  const signal = Number(readFileSync(file, 'latin1')) || 9;
  unlinkSync(file);
  process.kill(process.pid, signal);
}
