/** Containers' keys in maps and comparisons. */
import type { ContainerKey } from './types.ts';

/** Different keys have different names: no part of a key holds a NUL. */
export function keyName({ scope, namespace, id }: ContainerKey): string {
  return `${scope}\0${namespace}\0${id}`;
}

/** For the log. */
export function logFields(key: ContainerKey): Record<string, unknown> {
  return { namespace: key.namespace, id: key.id };
}
