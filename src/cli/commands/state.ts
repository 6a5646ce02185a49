/** `state`: the OCI state object, as runc prints it. */
import { type CommandContext, keyOf } from '../context.ts';
import { goJson, stateObject } from '../format.ts';
import { checkId } from '../ids.ts';

export async function stateCommand(context: CommandContext): Promise<number> {
  const state = context.deps.runtime.state(keyOf(context, checkId(context.args[0] ?? '')));
  // runc leaves the owner empty here, and fills it in `list`.
  context.print(goJson(stateObject(state, ''), '  '));
  return 0;
}
