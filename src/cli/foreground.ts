/** A container that the caller stays with: run and launch. */
import { exitStatusOf } from '../container/exit-reason.ts';
import type { CreateRequest } from '../container/types.ts';
import { WaitFlags } from '../daemon/wire.ts';
import { WherryError } from '../errors.ts';
import type { CommandContext } from './context.ts';

export interface ForegroundOptions {
  /** WaitFlags beside the relay of a terminal, which follows from the request. */
  waitFlags: number;
  keep: boolean;
  /** Nothing of this command is left to do once the container has gone. */
  last?: boolean;
}

/**
 * Creates and starts in one tape, waits for the caller to tell the end, deletes. Resolves with the exit status: the program's,
 * or 128 + signal.
 */
export async function runInForeground(
  context: CommandContext,
  request: CreateRequest,
  options: ForegroundOptions,
): Promise<number> {
  const { session, deps, operation } = context;
  const { runtime } = deps;
  const relay = request.caller?.relayConsole === true ? WaitFlags.RELAY_TERMINAL : 0;
  const waitFlags = options.waitFlags | relay;
  // Warnings go to the log's file only at the end.
  const endsAlone = options.last === true && !options.keep && context.globals.text('log') === undefined;
  const foreground = { waitFlags, cleanUp: !options.keep, endsAlone };
  const { pid } = await runtime.create({ ...request, startAtOnce: true, foreground }, operation);
  const waitStatus = await session.wait(pid, waitFlags);
  // The caller is the parent, so its word comes first and is known on every kernel.
  runtime.noteExit(request.key, waitStatus);
  if (!options.keep) {
    try {
      await runtime.delete(request.key, true, operation);
    } catch (thrown) {
      const error = WherryError.from(thrown);
      // Somebody else deletes it, as a checkpoint does.
      if (error.kind === 'not-found') return exitStatusOf(waitStatus);
      // The status of the program is what the caller asked for; what stayed behind is told beside it.
      context.warn(`the container has ended but could not be deleted: ${error.describe()}`);
      deps.log.error('a container that has ended could not be deleted', {
        id: request.key.id,
        error: error.message,
      });
    }
  }
  return exitStatusOf(waitStatus);
}
