/** `resume`: a paused container goes on. */
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';

export async function resumeCommand(context: CommandContext): Promise<number> {
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  await context.deps.runtime.resume(key, context.operation);
  return 0;
}
