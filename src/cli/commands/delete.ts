/** `delete`: removes a container, or with --regex many; with --force whatever its state is. */
import { WherryError } from '../../errors.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { forMatching } from '../pattern.ts';

export async function deleteCommand(context: CommandContext): Promise<number> {
  const { deps, flags, args, operation } = context;
  const force = flags.on('force');
  if (flags.on('regex')) {
    return forMatching(context, args[0] ?? '', (id) =>
      deps.runtime.delete(keyOf(context, id), force, operation),
    );
  }
  const key = keyOf(context, checkId(args[0] ?? ''));
  try {
    await deps.runtime.delete(key, force, operation);
  } catch (thrown) {
    // Two callers may clean up the same container: the second finds what it asked for.
    if (!force || deps.runtime.find(key) !== undefined || WherryError.from(thrown).kind !== 'not-found')
      throw thrown;
  }
  return 0;
}
