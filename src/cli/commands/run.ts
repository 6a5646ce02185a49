/** `run`: create and start in one, in the foreground or detached. */
import { WherryError } from '../../errors.ts';
import { findProgram } from '../../linux/program-path.ts';
import { type Bundle, readBundle } from '../bundle.ts';
import type { CommandContext } from '../context.ts';
import { createRequest } from '../create-request.ts';
import { runInForeground } from '../foreground.ts';
import { checkId } from '../ids.ts';

export async function runCommand(context: CommandContext): Promise<number> {
  const id = checkId(context.args[0] ?? '');
  const detached = context.flags.on('detach');
  const bundle = await bundleOrHint(context, id);
  const request = createRequest(context, id, bundle, detached);
  const keep = context.flags.on('keep');
  if (!detached) return runInForeground(context, request, { waitFlags: 0, keep, last: true });
  await context.deps.runtime.create({ ...request, startAtOnce: true }, context.operation);
  return 0;
}

/** "run ls" without a bundle: the caller more likely means launch. */
async function bundleOrHint(context: CommandContext, id: string): Promise<Bundle> {
  const named = context.flags.text('bundle');
  try {
    return await readBundle(context, named, '--bundle', context.flags.text('config'));
  } catch (thrown) {
    const error = WherryError.from(thrown);
    const mistaken = error.kind === 'not-found' && named === undefined && context.program !== 'runc';
    if (!mistaken || (await findProgram(id, context.session.request.env['PATH'] ?? '')) === undefined)
      throw error;
    throw new WherryError(error.kind, error.message, {
      ...error.details,
      hint: `"${id}" is a program: to run it without a bundle, type: wherry launch -- ${id}`,
    });
  }
}
