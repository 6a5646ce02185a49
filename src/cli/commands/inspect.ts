/** `inspect`: everything that is known of containers, as one JSON list. */
import { type CommandContext, ownerName } from '../context.ts';
import { goJson, rfc3339, stateObject } from '../format.ts';
import { namedContainer } from '../names.ts';

export async function inspectCommand(context: CommandContext): Promise<number> {
  const { runtime } = context.deps;
  const states = [...new Set(context.args)].map((name) => namedContainer(context, name));
  const objects = [];
  for (const state of states) {
    const { key, stdio, cgroups, exit } = state;
    objects.push({
      ...stateObject(state, ownerName()),
      namespace: key.namespace,
      ...(key.scope !== '' && { scope: key.scope }),
      ...(exit !== undefined && {
        exit: {
          status: exit.exitStatus,
          reason: exit.reason,
          signal: exit.signal,
          time: rfc3339(exit.exitedAt),
        },
      }),
      oomKills: state.oomKills,
      stdio,
      cgroups,
      execs: runtime.listExecs(key).map(({ execId, pid, status }) => ({ id: execId, pid, status })),
      process: await runtime.execDefaults(key),
    });
  }
  context.print(`${goJson(objects, '  ')}\n`);
  return 0;
}
