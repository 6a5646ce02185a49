/** The processes of a container: which they are, signals to one or all of them, and the freezer, which comes into both. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { type CgroupReader, openCgroupReader } from '../cgroup/reader.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { errnoNumbers } from '../linux/errno.ts';
import { type ExecContext, hasOwnPidNamespace, loadExecContext } from './exec-context.ts';
import { Freezer } from './freezer.ts';
import type { Keel } from './keel.ts';
import { membersOf } from './members.ts';
import type { ContainerRecord } from './record.ts';
import { assertSent, notRunning } from './refusals.ts';
import { hasCgroup } from './user-cgroups.ts';

export class Processes {
  readonly #keel: Keel;
  readonly #cgroups: CgroupHost;
  readonly #nextToken: () => bigint;
  readonly #readers = new Map<ContainerRecord, CgroupReader>();

  constructor(keel: Keel, cgroups: CgroupHost, nextToken: () => bigint) {
    this.#keel = keel;
    this.#cgroups = cgroups;
    this.#nextToken = nextToken;
  }

  /** In keel's pid namespace; the init is among them, also where its cgroup cannot be read. */
  async pids(record: ContainerRecord): Promise<number[]> {
    if (record.status === 'stopped') return record.pid === 0 ? [] : [record.pid];
    if (!hasCgroup(record)) {
      await this.context(record);
      return this.#members(record);
    }
    const pids = this.reader(record).pids();
    return pids.length === 0 && record.pid !== 0 ? [record.pid] : pids;
  }

  /** What an exec needs to know of the container. */
  async context(record: ContainerRecord): Promise<ExecContext> {
    record.execContext ??= await loadExecContext(record.dir, record.execText);
    return record.execContext;
  }

  /** Its descriptors stay open until `forget`. */
  reader(record: ContainerRecord): CgroupReader {
    let reader = this.#readers.get(record);
    if (reader === undefined) {
      if (record.cgroup === undefined) throw new WherryError('not-found', 'cgroup does not exist');
      reader = openCgroupReader(record.cgroup.paths, this.#cgroups.mode);
      this.#readers.set(record, reader);
    }
    return reader;
  }

  forget(record: ContainerRecord): void {
    this.#readers.get(record)?.close();
    this.#readers.delete(record);
  }

  freezer(record: ContainerRecord): Freezer {
    return new Freezer(record.cgroup?.paths ?? {}, this.#cgroups.mode, {
      keel: this.#keel,
      nextToken: this.#nextToken,
    });
  }

  /** To the init. Sent once for a call, however often that is replayed. */
  async signal(record: ContainerRecord, signal: number, requestId: string): Promise<void> {
    const result = await this.#keel.signal(record.token, signal, requestId);
    fault('kill.sent');
    // Frozen by v1's freezer a process does not even die.
    if (signal === SIGKILL && record.status === 'paused') await this.freezer(record).thaw();
    assertSent(result, signal, notRunning);
  }

  /** To every process of the cgroup; those of a container that is gone are no failure. */
  async signalAll(record: ContainerRecord, signal: number): Promise<void> {
    if (!hasCgroup(record)) await this.context(record);
    const pids = () => {
      if (!hasCgroup(record)) return this.#members(record);
      try {
        return this.reader(record).pids();
      } catch {
        return [];
      }
    };
    await this.freezer(record).signalAll(signal, pids, record.status === 'paused');
  }

  /** Resolves when the init's end is known. */
  async killAndWait(record: ContainerRecord): Promise<void> {
    await record.registered;
    record.killed = true;
    const frozen = record.status === 'paused' || record.status === 'pausing';
    const result = await this.#keel.signal(record.token, SIGKILL);
    if (frozen) await this.freezer(record).thaw();
    if (result < 0 && result !== -errnoNumbers.ESRCH) {
      throw new WherryError('internal', 'cannot kill the init', {
        errno: -result,
        syscall: 'pidfd_send_signal',
      });
    }
    await record.exited;
  }

  #members(record: ContainerRecord): number[] {
    const own = record.execContext !== undefined && hasOwnPidNamespace(record.execContext);
    return membersOf(record.pid, own);
  }
}
