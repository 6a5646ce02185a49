/**
 * What becomes of containers that an earlier wherryd left. Their state directories say what was meant and what is; keel says who lives.
 * An intent without its fact (a create that did not end) is undone; whose process keel does not know is looked for by pid and start time.
 */
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import type { Keel } from './keel.ts';
import { keepStreams } from './kept-streams.ts';
import { logFields } from './key.ts';
import type { ContainerRecord } from './record.ts';
import type { Logger, OperationContext, RuntimeEvent } from './types.ts';

/** Calls that are repeated come right after wherryd is ready. */
const REPEATED_MS = 5000;

export interface RecoveryDependencies {
  keel: Keel;
  log: Logger;
  /** Its create is undone to the end: mounts, cgroups, streams, the state directory; poststop hooks. */
  undone(record: ContainerRecord): Promise<void>;
  forget(record: ContainerRecord): void;
  /** Its process has ended and nobody knows how. */
  ended(record: ContainerRecord): void;
  /** Its exit is told later, after those of its execs. */
  held(record: ContainerRecord): boolean;
  tell(event: RuntimeEvent): void;
  /** An update that did not end: the limits are those before it again. */
  takeBack(record: ContainerRecord): Promise<void>;
}

export class Recovery {
  readonly #deps: RecoveryDependencies;
  readonly #records: ContainerRecord[] = [];

  constructor(dependencies: RecoveryDependencies) {
    this.#deps = dependencies;
  }

  /** `boot` is that of the keel which runs now. */
  add(record: ContainerRecord, boot: bigint): void {
    record.adopted = true;
    // Numbers of calls begin anew with each keel.
    if (record.boot !== boot) record.createdBy = record.frozenBy = '';
    record.boot = boot;
    if (record.exit === undefined) {
      record.unsettled = Promise.withResolvers();
      record.exitHeld = true;
    }
    this.#records.push(record);
  }

  tellAgain(): void {
    const { tell } = this.#deps;
    for (const record of this.#records) {
      const state = record.snapshot();
      if (state.status === 'creating') continue;
      tell({ type: 'created', state, rootfsMounts: record.rootfsMounts });
      if (state.status === 'created') continue;
      // One that was killed before its start still has the FIFO; it is not told as started.
      if (state.status !== 'stopped' || record.wasStarted) {
        tell({ type: 'started', state: { ...state, status: 'running', exit: undefined } });
      }
      if (record.exit !== undefined && !this.#deps.held(record)) {
        record.exitTold = true;
        tell({ type: 'exited', state, exit: record.exit });
      }
    }
  }

  /** keel knows its process. */
  found(record: ContainerRecord): void {
    if (!record.complete) return;
    record.exitHeld = false;
    if (record.updating === undefined) settle(record);
  }

  async settle(): Promise<void> {
    const records = this.#records.splice(0).filter((record) => record.unsettled !== undefined);
    await Promise.all(records.map((record) => this.#settleOne(record)));
  }

  /** Whether this very call has started the container: keel remembers it until it was answered. */
  async startedBy(record: ContainerRecord, { requestId }: OperationContext): Promise<boolean> {
    return (await this.#deps.keel.go(record.fifo, requestId)) === 0;
  }

  async #settleOne(record: ContainerRecord): Promise<void> {
    const { keel, log } = this.#deps;
    const fields = logFields(record.key);
    try {
      // By now its exit may have come, from an undoing that did not end either.
      if (!record.complete) {
        record.letGo = await keepStreams(record.stdio);
        // The caller of one that nobody makes again shall see its end.
        setTimeout(record.letGo, REPEATED_MS).unref();
        await keel.cancel(record.token);
        fault('undo.cancelled');
        await this.#deps.undone(record);
        this.#deps.forget(record);
        record.abandon(new WherryError('unavailable', 'wherryd has died while it created the container'));
        log.info('a create that did not end is undone', fields);
      } else {
        const result = await keel.adopt(record.token, record.pid, record.startTime);
        record.exitHeld = false;
        if (record.updating !== undefined) await this.#deps.takeBack(record);
        if (result < 0 && record.exit === undefined) {
          log.warn('the container has ended while nobody looked', { ...fields, pid: record.pid });
          this.#deps.ended(record);
        }
      }
    } catch (error) {
      log.error('a container cannot be taken up', { ...fields, error: WherryError.from(error).message });
    }
    settle(record);
  }
}

function settle(record: ContainerRecord): void {
  record.unsettled?.resolve();
  record.unsettled = undefined;
}
