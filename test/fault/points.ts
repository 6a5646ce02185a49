/** Which act passes which fault point, and what boundaries are called. */
import { FromKeel, ToKeel } from '../../src/daemon/wire.ts';
import { type FaultPoint, faultPoints } from '../../src/fault.ts';
import type { Act } from './life.ts';

const ACTS: Readonly<Record<string, Act>> = {
  create: 'run',
  start: 'run',
  update: 'update',
  pause: 'pause',
  resume: 'resume',
  kill: 'kill',
  delete: 'delete',
};

/** Points on the way of a container; undefined: an exec's, or one of every answer. */
function actOf(point: FaultPoint): Act | undefined {
  return ACTS[point.split('.')[0] ?? ''];
}

/** Points of one container's life, each with the act before which it is armed. `answer` is passed by each of them. */
export function cases(): { point: FaultPoint; act: Act }[] {
  const own = faultPoints.flatMap((point) => {
    const act = actOf(point);
    return act === undefined ? [] : [{ point, act }];
  });
  const answered = ['run', 'update', 'pause', 'resume', 'kill', 'delete'] as const;
  const answers = answered.map((act) => ({ point: 'answer' as const, act }));
  return [...own, { point: 'exit.saved', act: 'kill' }, ...answers];
}

/** The acts of a life that passes this case, beside those that no life is without. */
export function lifeOf(act: Act): readonly Act[] {
  if (act === 'update') return ['update'];
  return act === 'pause' || act === 'resume' ? ['pause', 'resume'] : [];
}

const ORDERS = namesOf(ToKeel);
const TELLINGS = namesOf(FromKeel);

function namesOf(table: Readonly<Record<string, number>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(table).map(([name, number]) => [String(number), name]));
}

/** One name a line; frames by their names instead of their numbers. */
export function stepNames(text: string): string[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) =>
    line
      .replace(/\b(order|ordered) (\d+)$/, (_, step, type) => `${step} ${ORDERS.get(type) ?? type}`)
      .replace(/\b(told|heard) (\d+)$/, (_, step, type) => `${step} ${TELLINGS.get(type) ?? type}`),
  );
}
