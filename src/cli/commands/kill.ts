/** `kill`: a signal to the init, or to all processes. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { parseSignal } from '../signals.ts';

export async function killCommand(context: CommandContext): Promise<number> {
  const { deps, args, flags, operation } = context;
  const key = keyOf(context, checkId(args[0] ?? ''));
  // As in runc, an unknown container is told before an unknown signal.
  deps.runtime.state(key);
  await deps.runtime.kill(key, parseSignal(args[1] ?? 'TERM'), flags.on('all'), operation);
  return 0;
}
