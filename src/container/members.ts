/**
 * Who is in a container that has no cgroup (an ordinary user's, mostly): every process of its pid namespace, as far as /proc shows it.
 * Without a pid namespace of its own nothing tells its processes from others, and only the init is known.
 */
import { readdirSync, readlinkSync } from 'node:fs';

/** Ascending numbers of this pid namespace; the kernel makes /proc from memory, so nothing here waits. */
export function membersOf(init: number, ownNamespace: boolean): number[] {
  if (init === 0) return [];
  if (!ownNamespace) return [init];
  const namespace = namespaceOf(init);
  if (namespace === undefined) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && namespaceOf(Number(name)) === namespace)
    .map(Number)
    .sort((a, b) => a - b);
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}
