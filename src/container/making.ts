/**
 * A create, in its order: what is asked is planned, the intent is written down, the tape is played, and only then is anybody told. Not here:
 * what is decided first (planning.ts), what the tape has in it and who plays it (creation.ts).
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { oomKills } from '../cgroup/oom.ts';
import type { SystemdUnit } from '../cgroup/systemd.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import type { Spec } from '../oci/types.ts';
import type { Containers } from './containers.ts';
import type { Creation } from './creation.ts';
import { goes } from './ends-alone.ts';
import { execContextOf, execContextText, saveFilter } from './exec-context.ts';
import type { Exits } from './exits.ts';
import type { Keel } from './keel.ts';
import { logFields } from './key.ts';
import type { Leaving } from './leaving.ts';
import type { CreatePlan, Planning } from './planning.ts';
import { ContainerRecord } from './record.ts';
import { alreadyExists } from './refusals.ts';
import { isRepeated, repeatedAs } from './repeats.ts';
import type { OpenUnit, Scopes } from './scopes.ts';
import type { Starting } from './starting.ts';
import { lookAtStreams, type StreamLooks } from './stdio.ts';
import type { StateStore } from './store.ts';
import type { ContainerState, CreateRequest, Logger, OperationContext, RuntimeEvent } from './types.ts';
import { LATER_MS } from './waiting.ts';

export interface MakingDependencies {
  keel: Keel;
  cgroupMode: CgroupHost['mode'];
  containers: Containers;
  planning: Planning;
  creation: Creation;
  exits: Exits;
  leaving: Leaving;
  scopes: Scopes;
  starting: Starting;
  store: StateStore;
  log: Logger;
  nextToken(): bigint;
  /** Which life of keel this is. */
  boot(): bigint;
  emit(event: RuntimeEvent): void;
}

export class Making {
  readonly #deps: MakingDependencies;

  constructor(dependencies: MakingDependencies) {
    this.#deps = dependencies;
  }

  async create(request: CreateRequest, context: OperationContext): Promise<ContainerState> {
    const { containers } = this.#deps;
    const earlier = containers.named(request.key);
    if (earlier?.unsettled !== undefined) {
      await earlier.unsettled.promise;
      return this.create(request, context).finally(() => earlier.letGo?.());
    }
    if (earlier !== undefined) {
      // The call of which the last wherryd did everything but answer.
      if (isRepeated(earlier, earlier.createdBy, context)) return earlier.snapshot();
      if (await goes(earlier)) return this.create(request, context);
      throw alreadyExists();
    }
    const record = this.#recordOf(request, context);
    containers.add(record);
    try {
      await this.#make(record, request, context);
    } catch (thrown) {
      containers.forget(record);
      const error = WherryError.from(thrown);
      record.abandon(error);
      throw error;
    }
    this.#tell(record, request);
    return record.snapshot();
  }

  #recordOf(request: CreateRequest, context: OperationContext): ContainerRecord {
    const { key, bundle, stdio, settings = {}, startAtOnce } = request;
    const dir = request.stateDir ?? this.#deps.store.directory(key);
    const record = new ContainerRecord(key, this.#deps.nextToken(), dir, bundle, stdio);
    record.rootfsMounts = request.rootfsMounts;
    record.settings = settings;
    record.createdBy = repeatedAs(context);
    record.startsAtOnce = startAtOnce === true;
    record.boot = this.#deps.boot();
    return record;
  }

  /** What fails leaves nothing but the record. */
  async #make(record: ContainerRecord, request: CreateRequest, context: OperationContext): Promise<void> {
    const { planning, store, leaving } = this.#deps;
    // Of a restore that waits for its start they may be others by then.
    const looks =
      request.caller === undefined && request.restore?.atStart !== true
        ? lookAtStreams(request.stdio)
        : undefined;
    const plan = await planning.plan(request, record);
    let claimed = false;
    try {
      store.claim(record.dir, record.key);
      claimed = true;
      fault('create.claimed');
      store.save(record);
      fault('create.intent');
      await this.#carryOut(plan, record, request, looks);
      // As in runc, what is restored has had its poststart hooks.
      if (request.startAtOnce === true && request.restore === undefined)
        await this.#deps.starting.poststart(record, context);
    } catch (error) {
      // Nothing of ours stays open in the root.
      await plan.withItsHome.catch(() => {});
      if (claimed) await leaving.undo(record, context);
      throw error;
    }
  }

  async #carryOut(
    plan: CreatePlan,
    record: ContainerRecord,
    request: CreateRequest,
    looks: StreamLooks | undefined,
  ): Promise<void> {
    const { creation, exits, keel, store } = this.#deps;
    record.execContext = execContextOf(plan.spec, plan.filter, request.noNewKeyring === true);
    // Only an exec under a later wherryd reads it: with its caller beside it a container has mostly ended before that.
    const saved = request.foreground === undefined ? saveFilter(record.dir, record.execContext) : undefined;
    saved?.catch(() => {});
    record.oomKills = oomKills(plan.cgroup.paths, this.#deps.cgroupMode);
    if (request.restore?.atStart === true) {
      record.execText = execContextText(record.execContext);
      await creation.beforeRestore(request);
      const rest = { ...request, rootfsMounts: [], files: [] };
      record.restoreNow = () => this.#play(plan, record, rest, looks);
    } else {
      const played = this.#play(plan, record, request, looks);
      // While that waits for the pool: whoever waits for the create does not wait for this.
      if (saved !== undefined) record.execText = execContextText(record.execContext);
      await played;
    }
    fault('create.played');
    exits.watchOomsSoon(record);
    if (saved === undefined) this.#saveSoon(record);
    await saved;
    if (record.exit === undefined) record.status = request.startAtOnce === true ? 'running' : 'created';
    record.complete = true;
    store.save(record);
    if (record.exit !== undefined) keel.acknowledgeExit(record.token);
    fault('create.saved');
  }

  async #play(
    plan: CreatePlan,
    record: ContainerRecord,
    request: CreateRequest,
    looks: StreamLooks | undefined,
  ): Promise<void> {
    const scope = plan.unit === undefined ? undefined : await this.#openScope(plan.unit, record, plan.spec);
    try {
      await this.#deps.creation.play(request, record, plan, looks);
    } finally {
      await scope?.leave();
    }
  }

  #tell(record: ContainerRecord, { rootfsMounts, restore, startAtOnce }: CreateRequest): void {
    const { emit, exits } = this.#deps;
    const checkpoint = restore?.imagesDir;
    const state = record.snapshot();
    emit({ type: 'created', state, rootfsMounts, ...(checkpoint !== undefined && { checkpoint }) });
    if (startAtOnce === true) emit({ type: 'started', state: record.snapshot() });
    // An init that ended meanwhile is told only now, so that no exit comes before its create and start.
    exits.release(record);
    fault('create.told');
  }

  async #openScope(unit: SystemdUnit, record: ContainerRecord, spec: Spec): Promise<OpenUnit> {
    try {
      const scope = await this.#deps.scopes.open(unit, record.key.id, spec, record.cgroup?.paths ?? {});
      record.unit = scope.isOurs ? unit.name : undefined;
      return scope;
    } catch (error) {
      // One of this name that is somebody else's must not be stopped when this create is undone.
      if (error instanceof WherryError && error.kind === 'already-exists') record.unit = undefined;
      throw error;
    }
  }

  #saveSoon(record: ContainerRecord): void {
    setTimeout(() => {
      this.#saveExecContext(record).catch((error: unknown) => {
        record.execText = '';
        // Its folder went while this was written: there will be no exec.
        if (record.deleting || record.exit !== undefined) return;
        this.#deps.log.warn('cannot remember what an exec needs', {
          ...logFields(record.key),
          error: String(error),
        });
      });
    }, LATER_MS).unref();
  }

  async #saveExecContext(record: ContainerRecord): Promise<void> {
    if (
      record.execContext === undefined ||
      record.exit !== undefined ||
      !this.#deps.containers.isKept(record)
    )
      return;
    await saveFilter(record.dir, record.execContext);
    if (record.exit !== undefined || !this.#deps.containers.isKept(record)) return;
    record.execText = execContextText(record.execContext);
    this.#deps.store.save(record);
  }
}
