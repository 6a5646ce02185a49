/** `restore`: a container from its image, in the foreground or detached. */
import type { CreateRequest } from '../../container/types.ts';
import { readBundle } from '../bundle.ts';
import type { CommandContext } from '../context.ts';
import { createRequest } from '../create-request.ts';
import { runInForeground } from '../foreground.ts';
import { checkId } from '../ids.ts';
import { imageOptions } from '../image-options.ts';

export async function restoreCommand(context: CommandContext): Promise<number> {
  const { flags } = context;
  const id = checkId(context.args[0] ?? '');
  const detached = flags.on('detach');
  const bundle = await readBundle(context, flags.text('bundle'), '--bundle');
  const profile = flags.text('lsm-profile');
  const mountContext = flags.text('lsm-mount-context');
  const request: CreateRequest = {
    ...createRequest(context, id, bundle, detached),
    startAtOnce: true,
    restore: {
      ...imageOptions(context),
      ...(profile !== undefined && { lsmProfile: profile }),
      ...(mountContext !== undefined && { lsmMountContext: mountContext }),
    },
  };
  if (!detached) return runInForeground(context, request, { waitFlags: 0, keep: flags.on('keep') });
  await context.deps.runtime.create(request, context.operation);
  return 0;
}
