/** `ps`: the processes of a container, by the host's numbers. */
import { WherryError } from '../../errors.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { goJson } from '../format.ts';
import { checkId } from '../ids.ts';
import { shown } from '../parse.ts';
import { processTable } from '../process-table.ts';

export async function psCommand(context: CommandContext): Promise<number> {
  const { deps, flags, args, print } = context;
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
