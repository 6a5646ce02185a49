/** `start`: lets a created container's program run. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { notifyRequest } from '../notify-socket.ts';

export async function startCommand(context: CommandContext): Promise<number> {
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  await context.deps.runtime.start(key, context.operation, notifyRequest(context));
  return 0;
}
