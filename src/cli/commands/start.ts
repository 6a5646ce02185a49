/** `start`: lets a created container's program run. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';

export async function startCommand(context: CommandContext): Promise<number> {
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  await context.deps.runtime.start(key, context.operation);
  return 0;
}
