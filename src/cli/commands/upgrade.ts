/** `upgrade`: the daemon goes on as the build that the client is of, under running containers. */
import type { CommandContext } from '../context.ts';

/** Comes here twice: in the wherryd that leaves, which does not get past the call, and in the one that comes. */
export async function upgradeCommand({ deps, print }: CommandContext): Promise<number> {
  await deps.daemon.upgrade();
  const { keel, wherryd } = deps.versions;
  print(`the daemon runs build ${wherryd}${keel === wherryd ? '' : `, keel ${keel}`}\n`);
  return 0;
}
