/** Changes of a container that is there: pause, resume, other limits. Each is written down so that the next wherryd can end or undo it. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import { type FaultPoint, fault } from '../fault.ts';
import type { LinuxResources } from '../oci/types.ts';
import { folderName } from './folder-name.ts';
import type { Keel } from './keel.ts';
import { logFields } from './key.ts';
import type { Processes } from './processes.ts';
import type { ContainerRecord } from './record.ts';
import { notRunning } from './refusals.ts';
import { isRepeated, repeatedAs } from './repeats.ts';
import { type ResctrlChange, updateResctrl } from './resctrl-update.ts';
import type { Scopes } from './scopes.ts';
import type { StateStore } from './store.ts';
import type { Logger, OperationContext, RuntimeEvent } from './types.ts';
import { updateResources } from './update.ts';
import { assertCgroup } from './user-cgroups.ts';

export interface ChangesDependencies {
  keel: Keel;
  cgroups: CgroupHost;
  processes: Processes;
  scopes: Scopes;
  store: StateStore;
  log: Pick<Logger, 'warn'>;
  nextToken(): bigint;
  emit(event: RuntimeEvent): void;
  /** Neither deleted nor about to be. */
  isKept(record: ContainerRecord): boolean;
}

export class Changes {
  readonly #deps: ChangesDependencies;

  constructor(dependencies: ChangesDependencies) {
    this.#deps = dependencies;
  }

  async pause(record: ContainerRecord, context: OperationContext): Promise<void> {
    const begun = isRepeated(record, record.frozenBy, context);
    fault('pause.begun');
    if (record.status !== 'running' && record.status !== 'created' && !(begun && record.status === 'paused'))
      throw notRunning('failed-precondition');
    assertCgroup(record, this.#deps.cgroups, 'pause');
    const before = record.status === 'paused' ? record.pausedFrom : record.status;
    record.status = 'pausing';
    const freezer = this.#deps.processes.freezer(record);
    try {
      // So that the next wherryd looks whether it is frozen, and knows the call when it comes again.
      record.frozenBy = repeatedAs(context);
      this.#deps.store.save(record);
      await freezer.freeze(context.host);
      fault('pause.frozen');
    } catch (error) {
      await freezer.thaw(context.host).catch(() => {});
      if (record.status === 'pausing') record.status = before;
      throw error;
    }
    // The init may have been killed meanwhile.
    if (record.exit !== undefined) throw notRunning('failed-precondition');
    record.status = 'paused';
    record.pausedFrom = before;
    this.#deps.emit({ type: 'paused', state: record.snapshot() });
    this.#trySave(record, 'pause.told');
  }

  async resume(record: ContainerRecord, context: OperationContext): Promise<void> {
    const begun = isRepeated(record, record.frozenBy, context);
    fault('resume.begun');
    if (record.status !== 'paused' && !(begun && record.exit === undefined))
      throw new WherryError('failed-precondition', 'container not paused');
    // What is frozen must not stay so for want of room.
    record.frozenBy = repeatedAs(context);
    this.#trySave(record);
    await this.#deps.processes.freezer(record).thaw(context.host);
    fault('resume.thawed');
    if (record.exit !== undefined) return;
    record.status = record.pausedFrom;
    this.#deps.emit({ type: 'resumed', state: record.snapshot() });
    this.#trySave(record, 'resume.told');
  }

  async update(
    record: ContainerRecord,
    resources: LinuxResources,
    context: OperationContext,
    resctrl?: ResctrlChange,
  ): Promise<string[]> {
    fault('update.begun');
    if (record.exit !== undefined || record.status === 'creating') throw notRunning('failed-precondition');
    assertCgroup(record, this.#deps.cgroups, 'change limits');
    const undo = resctrl && (await this.#updateResctrl(record, resctrl, context));
    try {
      return await this.#updateCgroup(record, resources, context);
    } catch (error) {
      await undo?.();
      throw error;
    }
  }

  #updateResctrl(record: ContainerRecord, change: ResctrlChange, { host }: OperationContext) {
    return updateResctrl(folderName(record.key.id), record.resctrl, change, {
      host: host ?? this.#deps.keel,
      nextToken: this.#deps.nextToken,
      pids: () => this.#deps.processes.reader(record).pids(),
      remember: (groups) => {
        record.resctrl = groups;
        this.#deps.store.save(record);
      },
    });
  }

  async #updateCgroup(
    record: ContainerRecord,
    resources: LinuxResources,
    context: OperationContext,
  ): Promise<string[]> {
    const write = () =>
      updateResources(record, resources, {
        cgroups: this.#deps.cgroups,
        host: context.host ?? this.#deps.keel,
        nextToken: this.#deps.nextToken,
        intend: (before) => {
          // The first: what stood there before the whole update.
          record.updating ??= { before, devices: resources.devices !== undefined };
          this.#trySave(record);
          fault('update.intent');
        },
      });
    try {
      const { warnings, devices } = await write();
      fault('update.written');
      if (record.unit !== undefined) {
        await this.#deps.scopes.update(
          record,
          { ...resources, devices },
          this.#deps.processes.freezer(record),
        );
        await write();
      }
      return warnings;
    } finally {
      record.updating = undefined;
      this.#trySave(record);
    }
  }

  /** What a wherryd that died in this moment would need: no reason to fail where it cannot be written. */
  #trySave(record: ContainerRecord, point?: FaultPoint): void {
    try {
      if (point !== undefined) fault(point);
      if (this.#deps.isKept(record)) this.#deps.store.save(record);
    } catch (error) {
      this.#deps.log.warn('a state cannot be written down', {
        ...logFields(record.key),
        error: String(error),
      });
    }
  }
}
