/** From a created container to its running program: the go at the exec FIFO, or the restore that waited for it, and the hooks behind. */
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { playHooks, startHooksEnd } from './hooks.ts';
import type { Keel } from './keel.ts';
import { listenForReady, type NotifyRequest } from './notify.ts';
import type { ContainerRecord } from './record.ts';
import type { Removal } from './removal.ts';
import type { StateStore } from './store.ts';
import type { OperationContext } from './types.ts';
import { sleep } from './waiting.ts';

export interface StartingDependencies {
  keel: Keel;
  removal: Removal;
  store: StateStore;
  nextToken(): bigint;
}

export class Starting {
  readonly #deps: StartingDependencies;

  constructor(dependencies: StartingDependencies) {
    this.#deps = dependencies;
  }

  /** Its program runs then. A record that was not let go is `created` again, unless its init has ended. */
  async letGo(record: ContainerRecord, context: OperationContext, notify?: NotifyRequest): Promise<void> {
    if (record.restoreNow !== undefined) return this.#restoreNow(record, context);
    if (notify !== undefined) await this.#listen(record, notify);
    await this.#go(record, context);
    fault('start.gone');
    await startHooksEnd(record);
    await this.poststart(record, context);
  }

  /** A hook that fails ends the container (runtime.md, "Lifecycle", step 10). */
  async poststart(record: ContainerRecord, context: OperationContext): Promise<void> {
    try {
      await playHooks(context.host ?? this.#deps.keel, this.#deps.nextToken(), record, 'poststart');
    } catch (error) {
      await this.#deps.keel.signal(record.token, SIGKILL);
      throw error;
    }
  }

  async #listen(record: ContainerRecord, notify: NotifyRequest): Promise<void> {
    try {
      const { token, dir, pid } = record;
      await listenForReady(notify, { token, stateDir: dir, init: pid, staying: false });
    } catch (error) {
      if (record.exit === undefined) record.status = 'created';
      throw error;
    }
  }

  /** Opens the exec FIFO, at which the created init waits. */
  async #go(record: ContainerRecord, { requestId }: OperationContext): Promise<void> {
    const notOpen = -errnoNumbers.ENXIO;
    let result = await this.#deps.keel.go(record.fifo, requestId);
    for (let wait = 1; result === notOpen && record.exit === undefined; wait = Math.min(wait * 2, 100)) {
      // The init said that it is ready just before it opens the FIFO: we may be faster than it.
      await sleep(wait);
      result = await this.#deps.keel.go(record.fifo, requestId);
    }
    if (result < 0) {
      if (record.exit === undefined) record.status = 'created';
      throw new WherryError('failed-precondition', 'cannot start a container that has stopped', {
        errno: -result,
      });
    }
  }

  async #restoreNow(record: ContainerRecord, context: OperationContext): Promise<void> {
    const restore = record.restoreNow;
    try {
      await restore?.();
      record.restoreNow = undefined;
      this.#deps.store.save(record);
    } catch (error) {
      record.status = 'created';
      // Its root filesystem stays mounted until the delete, as it was before this start.
      await this.#deps.removal.playCgroups(record, context.host ?? this.#deps.keel);
      throw error;
    }
  }
}
