/** `create`: everything but the program itself. */
import { readBundle } from '../bundle.ts';
import type { CommandContext } from '../context.ts';
import { createRequest } from '../create-request.ts';
import { checkId } from '../ids.ts';

export async function createCommand(context: CommandContext): Promise<number> {
  const { flags } = context;
  const id = checkId(context.args[0] ?? '');
  const bundle = await readBundle(context, flags.text('bundle'), '--bundle', flags.text('config'));
  await context.deps.runtime.create(createRequest(context, id, bundle, true), context.operation);
  return 0;
}
