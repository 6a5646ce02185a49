/** `list`: the containers of one root. */
import { type CommandContext, keyOf, ownerName } from '../context.ts';
import { goJson, rfc3339, stateObject, table } from '../format.ts';

const HEAD = ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'];

export async function listCommand(context: CommandContext): Promise<number> {
  const { deps, flags, print } = context;
  const { scope, namespace } = keyOf(context, '');
  const states = deps.runtime.list({ scope, namespace }).sort((a, b) => (a.key.id < b.key.id ? -1 : 1));
  if (flags.on('quiet')) {
    print(states.map(({ key }) => `${key.id}\n`).join(''));
    return 0;
  }
  const owner = ownerName();
  if (flags.text('format') === 'json') {
    // An empty list is Go's nil slice, which callers of runc know.
    print(`${goJson(states.length === 0 ? null : states.map((state) => stateObject(state, owner)))}\n`);
    return 0;
  }
  const rows = states.map((state) => [
    state.key.id,
    String(state.status === 'stopped' ? 0 : state.pid),
    state.status,
    state.bundle,
    rfc3339(state.createdAt),
    owner,
  ]);
  print(table([HEAD, ...rows]));
  return 0;
}
