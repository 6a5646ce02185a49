/** `ps`: the processes of a container, by the host's numbers. */
import { WherryError } from '../../errors.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { goJson, rfc3339, table } from '../format.ts';
import { checkId } from '../ids.ts';
import { shown } from '../parse.ts';
import { processTable } from '../process-table.ts';

export async function psCommand(context: CommandContext): Promise<number> {
  const { deps, flags, args, print } = context;
  if (args.length === 0) return listAll(context);
  const key = keyOf(context, checkId(args[0] ?? ''));
  const stopped = deps.runtime.state(key).status === 'stopped';
  const options = args.slice(1);
  const strange = options.find((option) => option !== '-ef' && option !== '--');
  if (strange !== undefined) {
    throw new WherryError('unimplemented', `ps: the option ${shown(strange)} is not available`, {
      path: 'OPTION',
      hint: 'only -ef is; --format json gives the process ids for a ps of your own',
    });
  }
  const pids = stopped ? [] : await deps.runtime.pids(key);
  if (flags.text('format') === 'json') {
    // An empty list is Go's nil slice, which callers of runc know.
    print(`${goJson(pids.length === 0 ? null : pids)}\n`);
    return 0;
  }
  print(await processTable(pids));
  return 0;
}

const HEAD = ['ID', 'STATUS', 'PID', 'NAMESPACE', 'CREATED', 'BUNDLE'];

/** Every container of this wherryd, whoever made it. */
function listAll({ deps, flags, print, program }: CommandContext): number {
  if (program === 'runc') {
    throw new WherryError('invalid-argument', '"ps" requires a minimum of 1 argument(s), found 0', {
      path: 'ID',
      hint: 'usage: runc ps [flags] ID [OPTION]',
    });
  }
  const states = deps.runtime
    .list()
    .sort((a, b) => compare(a.key.namespace, b.key.namespace) || compare(a.key.id, b.key.id));
  if (flags.text('format') === 'json') {
    const objects = states.map(({ key, status, pid, createdAt, bundle, exit }) => ({
      id: key.id,
      status,
      pid: status === 'stopped' ? 0 : pid,
      namespace: key.namespace,
      created: rfc3339(createdAt),
      bundle,
      ...(exit !== undefined && { exitStatus: exit.exitStatus }),
    }));
    print(`${goJson(objects)}\n`);
    return 0;
  }
  const rows = states.map(({ key, status, pid, createdAt, bundle, exit }) => [
    key.id,
    exit === undefined ? status : `${status} (${exit.exitStatus})`,
    status === 'stopped' ? '-' : String(pid),
    key.namespace,
    rfc3339(createdAt),
    bundle,
  ]);
  print(table([HEAD, ...rows]));
  return 0;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
