/** `checkpoint`: a container's processes into a folder. */
import { resolve } from 'node:path';
import type { CheckpointOptions } from '../../container/criu/options.ts';
import type { ContainerKey } from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import { type CommandContext, keyOf } from '../context.ts';
import { checkId } from '../ids.ts';
import { imageOptions } from '../image-options.ts';
import { assertSameView } from '../namespaces.ts';

export async function checkpointCommand(context: CommandContext): Promise<number> {
  const { deps, flags, operation } = context;
  const key = keyOf(context, checkId(context.args[0] ?? ''));
  deps.runtime.state(key);
  const common = imageOptions(context);
  await assertSameView(context.session, resolve(common.imagesDir, '..'), '--image-path');
  const preDump = flags.on('pre-dump');
  const leaveRunning = flags.on('leave-running');
  const parentPath = flags.text('parent-path');
  const options: CheckpointOptions = {
    ...common,
    leaveRunning,
    preDump,
    tcpSkipInFlight: flags.on('tcp-skip-in-flight'),
    linkRemap: flags.on('link-remap'),
    ...(parentPath !== undefined && { parentPath }),
    ...pageServer(flags.text('page-server')),
    ...statusFd(context),
  };
  await deps.runtime.checkpoint(key, options, operation);
  // As in runc: the container has ended, and its image is what is left of it.
  if (!preDump && !leaveRunning) await remove(context, key);
  return 0;
}

async function remove({ deps, operation }: CommandContext, key: ContainerKey): Promise<void> {
  try {
    await deps.runtime.delete(key, true, { requestId: operation.requestId });
  } catch (thrown) {
    // A "run" that stays with its container was quicker.
    if (WherryError.from(thrown).kind !== 'not-found') throw thrown;
  }
}

function statusFd({ flags }: CommandContext): Pick<CheckpointOptions, 'statusFd'> {
  const number = flags.integer('status-fd');
  if (number === undefined) return {};
  if (flags.on('lazy-pages')) return { statusFd: number };
  throw new WherryError('invalid-argument', '--status-fd is only told of with --lazy-pages', {
    path: '--status-fd',
    hint: 'leave it out, or give --lazy-pages too',
  });
}

/** The port is behind the last colon: an address of IPv6 has some of its own. */
function pageServer(given: string | undefined): Pick<CheckpointOptions, 'pageServer'> {
  if (given === undefined) return {};
  const colon = given.lastIndexOf(':');
  const address = given.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = /^\d{1,5}$/.test(given.slice(colon + 1)) ? Number(given.slice(colon + 1)) : 0;
  if (colon > 0 && address !== '' && port > 0 && port < 65_536) return { pageServer: { address, port } };
  throw new WherryError(
    'invalid-argument',
    `invalid value ${JSON.stringify(given)} for flag --page-server: expected ADDRESS:PORT`,
    { path: '--page-server' },
  );
}
