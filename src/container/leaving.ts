/** How a container goes, after its end or in the middle of its making: in which order what belongs to it is taken away. */
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { hasOwnPidNamespace } from './exec-context.ts';
import { playHooks } from './hooks.ts';
import type { Keel } from './keel.ts';
import { logFields } from './key.ts';
import type { Loggers } from './loggers.ts';
import type { Ooms } from './ooms.ts';
import type { PlayHost } from './play.ts';
import type { Processes } from './processes.ts';
import { type ContainerRecord, exitOf } from './record.ts';
import type { Removal } from './removal.ts';
import type { Scopes } from './scopes.ts';
import type { StateStore } from './store.ts';
import { DRAIN_MS } from './streams.ts';
import type { Logger, OperationContext, RuntimeEvent } from './types.ts';
import { sleep } from './waiting.ts';

/** Between tries to undo a create whose undoing has failed. */
const FIRST_UNDO_MS = 500;
const LAST_UNDO_MS = 60_000;

export interface LeavingDependencies {
  keel: Keel;
  processes: Processes;
  loggers: Loggers;
  ooms: Ooms;
  scopes: Scopes;
  removal: Removal;
  store: StateStore;
  log: Logger;
  nextToken(): bigint;
  emit(event: RuntimeEvent): void;
}

/** keel keeps no streams of a container that had its caller's, and only the ends of FIFOs that the init was given itself. */
function mayBeCopied({ cleanup, stdio, logger, execContext }: ContainerRecord): boolean {
  if (cleanup !== undefined) return false;
  return (
    stdio.terminal || logger !== undefined || execContext === undefined || !hasOwnPidNamespace(execContext)
  );
}

export class Leaving {
  readonly #deps: LeavingDependencies;
  /** Creates that were undone before their init had said who it is. */
  readonly #undone = new Set<bigint>();

  constructor(dependencies: LeavingDependencies) {
    this.#deps = dependencies;
  }

  /** An init says who it is only now: it ends if its create is undone already. */
  onRegistered(token: bigint): void {
    if (this.#undone.delete(token)) void this.#deps.keel.signal(token, SIGKILL);
  }

  /** After a failed create: the init is gone or is killed, mounts and cgroups go, the folder goes. */
  async undo(record: ContainerRecord, context: OperationContext): Promise<void> {
    try {
      // A client that was killed may have left an init that keel does not know yet.
      if (context.host === undefined) await this.#deps.keel.cancel(record.token);
      else if ((await this.#deps.keel.signal(record.token, SIGKILL)) < 0 && context.signal?.aborted === true)
        this.#undone.add(record.token);
      if (record.logger !== undefined) await this.#deps.loggers.kill(record.logger);
      await this.undone(record, context);
    } catch (error) {
      const fields = { ...logFields(record.key), error: String(error) };
      this.#deps.log.error('a failed create left something behind', fields);
    }
  }

  /** Its processes have ended. With an init there were hooks, which may have made what only poststop hooks take away. */
  async undone(record: ContainerRecord, context: OperationContext): Promise<void> {
    await this.#removeOrLater(record, context);
    if (record.pid !== 0) await this.#poststop(record, context);
  }

  /** What is wanting (descriptors, room, memory) may be there again later. */
  async #removeOrLater(record: ContainerRecord, context: OperationContext): Promise<void> {
    try {
      await this.removeAll(record, context);
    } catch (error) {
      const fields = { ...logFields(record.key), error: String(error) };
      this.#deps.log.error('a failed create left something behind; it is removed later', fields);
      void this.#undoLater(record);
    }
  }

  /** The next wherryd tries, too: the state says `creating`. */
  async #undoLater(record: ContainerRecord): Promise<void> {
    for (let wait = FIRST_UNDO_MS; ; wait = Math.min(wait * 2, LAST_UNDO_MS)) {
      await sleep(wait);
      try {
        await this.removeAll(record, { requestId: 'undo' });
        return this.#deps.log.info('a failed create is undone', logFields(record.key));
      } catch (error) {
        this.#deps.log.debug('a failed create is still there', {
          ...logFields(record.key),
          error: String(error),
        });
      }
    }
  }

  /** Who plays what takes something away: the caller's client, unless it has gone. */
  #hostOf({ host, signal }: OperationContext): PlayHost {
    return host === undefined || signal?.aborted === true ? this.#deps.keel : host;
  }

  async removeAll(record: ContainerRecord, context: OperationContext): Promise<void> {
    this.#deps.processes.forget(record);
    this.#deps.ooms.forget(record);
    if (record.unit !== undefined) await this.#deps.scopes.remove(record.unit);
    const done = await record.cleanup;
    if (done?.waitStatus !== 0) {
      const host = this.#hostOf(context);
      await this.#deps.removal.play(record, host).catch((error: unknown) => {
        if (host === this.#deps.keel || context.signal?.aborted !== true) throw error;
        return this.#deps.removal.play(record, this.#deps.keel);
      });
    }
    // The event first: what it tells is true as soon as the directory is gone, and who asks again then is told from it. keel
    // remembers the exit until the release.
    fault('delete.removed');
    // Before anybody hears of it, because who hears may remove the bundle, in which they run; and before the state goes: if wherryd dies over
    // them, the next delete runs them.
    if (record.deleting) await this.#poststop(record, context);
    if (record.deleting) this.#deps.emit({ type: 'deleted', state: record.snapshot(), exit: exitOf(record) });
    fault('delete.told');
    this.#deps.store.remove(record.dir, record.key);
    fault('delete.forgotten');
    const released = this.#deps.keel.release(record.token, record.settings.drainMs ?? DRAIN_MS);
    // What is not copied ends as keel hears of it, which is before it can send on any answer.
    if (mayBeCopied(record)) await released;
  }

  /** Everything is gone already, so a hook that fails is only told (runtime.md, "Lifecycle", step 13). */
  async #poststop(record: ContainerRecord, context: OperationContext): Promise<void> {
    try {
      await playHooks(this.#hostOf(context), this.#deps.nextToken(), record, 'poststop');
    } catch (error) {
      this.#deps.log.warn(WherryError.from(error).message, logFields(record.key));
    }
  }
}
