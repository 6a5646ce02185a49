/** `ps`: the processes of a container, by the host's numbers. */
import type { ContainerStatus } from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import type { Style } from '../colour.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { goJson, rfc3339 } from '../format.ts';
import { checkId } from '../ids.ts';
import { peopleTable, since } from '../people-table.ts';
import { processTable } from '../process-table.ts';

export async function psCommand(context: CommandContext): Promise<number> {
  const { deps, flags, args, operation, print, session } = context;
  if (args.length === 0) return listAll(context);
  const key = keyOf(context, checkId(args[0] ?? ''));
  const stopped = deps.runtime.state(key).status === 'stopped';
  if (flags.on('quiet')) {
    throw new WherryError('invalid-argument', '--quiet lists ids of containers, and an ID was given', {
      path: '--quiet',
      hint: `for its process ids: wherry ps --format json ${key.id}`,
    });
  }
  const options = args[1] === '--' ? args.slice(2) : args.slice(1);
  const pids = stopped ? [] : await deps.runtime.pids(key);
  if (flags.text('format') === 'json') {
    // An empty list is Go's nil slice, which callers of runc know.
    print(`${goJson(pids.length === 0 ? null : pids)}\n`);
    return 0;
  }
  const usual = options.length === 0 || (options.length === 1 && options[0] === '-ef');
  const table = usual
    ? await processTable(pids)
    : await deps.runtime.processTable(key, { options, env: session.request.env }, operation);
  print(table);
  return 0;
}

const HEAD = ['ID', 'STATUS', 'PID', 'NAMESPACE', 'CREATED', 'COMMAND'];

const STYLES: Partial<Record<ContainerStatus, Style>> = { running: 'green', paused: 'yellow' };

/** Every container of this wherryd, whoever made it. */
function listAll({ deps, flags, print, program, session }: CommandContext): number {
  if (program === 'runc') {
    throw new WherryError('invalid-argument', '"ps" requires a minimum of 1 argument(s), found 0', {
      path: 'ID',
      hint: 'usage: runc ps [flags] ID [OPTION]',
    });
  }
  const states = deps.runtime
    .list()
    .sort((a, b) => compare(a.key.namespace, b.key.namespace) || compare(a.key.id, b.key.id));
  if (flags.on('quiet')) {
    print(states.map(({ key }) => `${key.id}\n`).join(''));
    return 0;
  }
  if (flags.text('format') === 'json') {
    const objects = states.map(({ key, status, pid, createdAt, bundle, exit, command = '' }) => ({
      id: key.id,
      status,
      pid: status === 'stopped' ? 0 : pid,
      namespace: key.namespace,
      created: rfc3339(createdAt),
      bundle,
      command,
      ...(exit !== undefined && { exitStatus: exit.exitStatus }),
    }));
    print(`${goJson(objects)}\n`);
    return 0;
  }
  const rows = states.map(({ key, status, pid, createdAt, exit, command = '' }) => [
    key.id,
    exit === undefined ? status : `${status} (${exit.exitStatus})`,
    status === 'stopped' ? '-' : String(pid),
    key.namespace,
    since(createdAt),
    command,
  ]);
  const styleOf = (row: number, column: number): Style | undefined => {
    const { status, exit } = states[row]!;
    if (column !== 1) return undefined;
    return exit === undefined ? STYLES[status] : exit.exitStatus === 0 ? undefined : 'red';
  };
  print(peopleTable(session, [HEAD, ...rows], styleOf));
  return 0;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
