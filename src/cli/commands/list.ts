/** `list`: the containers of one root. */
import { stat } from 'node:fs/promises';
import { WherryError } from '../../errors.ts';
import { errnoName } from '../bundle.ts';
import { type CommandContext, keyOf, ownerName, rootOf } from '../context.ts';
import { goJson, rfc3339, stateObject, table } from '../format.ts';

const HEAD = ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'];

export async function listCommand(context: CommandContext): Promise<number> {
  const { deps, flags, print } = context;
  const { scope, namespace } = keyOf(context, '');
  await checkRoot(context);
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

/** A --root that is a file is a mistake; one that is not there has no containers. */
async function checkRoot(context: CommandContext): Promise<void> {
  const root = rootOf(context);
  if (root === undefined) return;
  const folder = await stat(root).catch((error: unknown) => {
    if (errnoName(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (folder === undefined || folder.isDirectory()) return;
  throw new WherryError('invalid-argument', `--root ${root}: not a directory`, {
    path: '--root',
    hint: 'name the folder that was given when the containers were made',
  });
}
