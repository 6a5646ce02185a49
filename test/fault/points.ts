/** Which act passes which fault point. */
import { type FaultPoint, faultPoints } from '../../src/fault.ts';

export type Act = 'run' | 'kill' | 'delete';

/** Points on the way of a container without execs; undefined: an exec's, or one of every answer. */
export function actOf(point: FaultPoint): Act | undefined {
  const [group] = point.split('.');
  if (group === 'create' || group === 'start') return 'run';
  if (group === 'kill') return 'kill';
  if (group === 'delete') return 'delete';
  return undefined;
}

/** Points of one container's life, each with the act before which it is armed. `answer` is passed by each of them. */
export function cases(): { point: FaultPoint; act: Act }[] {
  const own = faultPoints.flatMap((point) => {
    const act = actOf(point);
    return act === undefined ? [] : [{ point, act }];
  });
  const answers = (['run', 'kill', 'delete'] as const).map((act) => ({ point: 'answer' as const, act }));
  return [...own, { point: 'exit.saved', act: 'kill' }, ...answers];
}
