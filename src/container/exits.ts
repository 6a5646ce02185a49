/** The end of a container's init: what is noted of it, when it is written down, and when it is told. */
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { hasOwnPidNamespace } from './exec-context.ts';
import { exitReason, exitStatusOf } from './exit-reason.ts';
import type { Keel } from './keel.ts';
import { logFields } from './key.ts';
import type { Ooms } from './ooms.ts';
import type { Processes } from './processes.ts';
import type { ContainerRecord } from './record.ts';
import type { StateStore } from './store.ts';
import type { Logger, RuntimeEvent } from './types.ts';
import { LATER_MS } from './waiting.ts';

/** A container that ends is mostly deleted in the same moment. */
const SAVE_DELAY_MS = 20;

export interface ExitsDependencies {
  keel: Keel;
  processes: Processes;
  ooms: Ooms;
  store: StateStore;
  log: Pick<Logger, 'error'>;
  emit(event: RuntimeEvent): void;
  /** It is not deleted. */
  isKnown(record: ContainerRecord): boolean;
  /** Their exits are told before the container's. */
  hasExecs(record: ContainerRecord): boolean;
}

export class Exits {
  readonly #deps: ExitsDependencies;

  constructor(dependencies: ExitsDependencies) {
    this.#deps = dependencies;
  }

  ended(record: ContainerRecord, waitStatus: number, time: Date, known = true): void {
    if (record.exit !== undefined) return;
    // A client that cleans up by itself has removed the cgroup, and its count, by now.
    if (record.cleanup === undefined) this.#deps.ooms.look(record);
    record.noteExit({
      pid: record.pid,
      exitStatus: exitStatusOf(waitStatus),
      exitedAt: time,
      ...(known && exitReason(waitStatus, record)),
    });
    this.#endTheRest(record);
    this.announce(record);
  }

  /** Without a pid namespace of its own the init's end is nobody else's: the others are killed (shim contract 5, rule 4). */
  #endTheRest(record: ContainerRecord): void {
    if (record.execContext === undefined || hasOwnPidNamespace(record.execContext)) return;
    this.#deps.processes.signalAll(record, SIGKILL).catch((error: unknown) =>
      this.#deps.log.error('processes may be left of a container', {
        ...logFields(record.key),
        error: String(error),
      }),
    );
  }

  keep(record: ContainerRecord): void {
    if (record.exit === undefined) return;
    try {
      if (this.#deps.isKnown(record)) this.#deps.store.save(record);
    } catch (error) {
      // keel remembers it, and tells it to the next wherryd.
      this.#deps.log.error('an exit cannot be written down', {
        ...logFields(record.key),
        error: String(error),
      });
      return;
    }
    fault('exit.saved');
    this.#deps.keel.acknowledgeExit(record.token);
  }

  release(record: ContainerRecord): void {
    record.exitHeld = false;
    this.announce(record);
  }

  /** The exit event comes once, and never before the create and start events. */
  announce(record: ContainerRecord): void {
    const { exit } = record;
    if (record.oomUntold) this.#deps.ooms.look(record);
    if (exit === undefined || record.exitHeld || record.exitTold || this.#deps.hasExecs(record)) return;
    record.exitTold = true;
    this.#deps.emit({ type: 'exited', state: record.snapshot(), exit });
  }

  /** Written down only when nobody deletes it at once; until then keel remembers it for us. */
  keepSoon(record: ContainerRecord): void {
    setTimeout(() => {
      if (!record.deleting && record.complete) this.keep(record);
    }, SAVE_DELAY_MS);
  }

  /** Off the path of whoever waits for create; what happens before is counted by the look here, or by the one at the exit. */
  watchOomsSoon(record: ContainerRecord): void {
    setTimeout(() => {
      if (record.exit !== undefined || !this.#deps.isKnown(record)) return;
      this.#deps.ooms.watch(record);
      this.#deps.ooms.look(record);
    }, LATER_MS).unref();
  }
}
