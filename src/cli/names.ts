/** Containers as people name them: by id, first among those of the command line, then among all others of this wherryd. */
import type { ContainerState } from '../container/types.ts';
import { WherryError } from '../errors.ts';
import { type CommandContext, keyOf } from './context.ts';
import { checkId } from './ids.ts';
import { nearest } from './suggest.ts';

/** not-found for an unknown id; failed-precondition where several outside the command line's own have it. */
export function namedContainer(context: CommandContext, name: string): ContainerState {
  const { runtime } = context.deps;
  const key = keyOf(context, checkId(name));
  const own = runtime.find(key);
  if (own !== undefined) return own;
  const others = runtime.list().filter((state) => state.key.id === name);
  if (others.length > 1) {
    const where = others.map(({ key: { namespace } }) => namespace).join(', ');
    throw new WherryError(
      'failed-precondition',
      `several containers are called ${name} (namespaces ${where})`,
      {
        path: 'ID',
        hint: 'use the program that made them',
      },
    );
  }
  if (others[0] !== undefined) return others[0];
  const near = nearest(
    name,
    runtime.list().map((state) => state.key.id),
  );
  throw new WherryError('not-found', `container does not exist: ${name}`, {
    path: 'id',
    hint: near === undefined ? '"wherry ps" lists all there are' : `did you mean ${near}?`,
  });
}
