/** `kill`: a signal to the init, or to all processes; with --regex to many containers. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { forMatching } from '../pattern.ts';
import { parseSignal } from '../signals.ts';

export async function killCommand(context: CommandContext): Promise<number> {
  const { deps, args, flags, operation } = context;
  if (flags.on('regex')) {
    const signal = parseSignal(args[1] ?? 'TERM');
    return forMatching(context, args[0] ?? '', (id) =>
      deps.runtime.kill(keyOf(context, id), signal, flags.on('all'), operation),
    );
  }
  const key = keyOf(context, checkId(args[0] ?? ''));
  // As in runc, an unknown container is told before an unknown signal.
  deps.runtime.state(key);
  await deps.runtime.kill(key, parseSignal(args[1] ?? 'TERM'), flags.on('all'), operation);
  return 0;
}
