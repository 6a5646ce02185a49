/** `pause`: stops every process of a container where it is. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';

export async function pauseCommand(context: CommandContext): Promise<number> {
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  await context.deps.runtime.pause(key, context.operation);
  return 0;
}
