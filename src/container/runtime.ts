/**
 * The runtime core: containers by name, their life from create to delete. It decides; keel or the client acts.
 * Lives here: the state machine and what must happen in which order. Not here: how a config becomes system calls
 * (compile/), RPC, argv.
 */
import { rmdirSync } from 'node:fs';
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { oomKills } from '../cgroup/oom.ts';
import { planCgroup } from '../cgroup/plan.ts';
import type { CgroupStats } from '../cgroup/stats.ts';
import { isSliceName, type SystemdUnit } from '../cgroup/systemd.ts';
import { foldersIn } from '../cgroup/tree.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { isAlive } from '../linux/pidfd.ts';
import { compileSeccomp } from '../linux/seccomp.ts';
import type { LinuxResources, Mount, Spec } from '../oci/types.ts';
import { type Asker, readBundle, readSpec, rootfsOf } from './bundle-spec.ts';
import { cgroupOwner } from './cgroup-owner.ts';
import { Changes } from './changes.ts';
import { commandText } from './command-text.ts';
import { Creation } from './creation.ts';
import { checkpointContainer } from './criu/checkpoint.ts';
import type { CheckpointOptions } from './criu/options.ts';
import { canEndAlone, goes } from './ends-alone.ts';
import { execContextOf, execContextText, saveFilter } from './exec-context.ts';
import { Execs } from './execs.ts';
import { exitStatusOf } from './exit-reason.ts';
import { Exits } from './exits.ts';
import { explainBundle } from './explain.ts';
import { folderName } from './folder-name.ts';
import { readForeign, removeForeign } from './foreign.ts';
import { withHome } from './home.ts';
import { laterHooks } from './hooks.ts';
import type { Keel, ProcessExit, Registration } from './keel.ts';
import { keyName, logFields } from './key.ts';
import { Leaving } from './leaving.ts';
import { addMounts, type LiveMountsDependencies, removeMounts } from './live-mounts.ts';
import { Loggers } from './loggers.ts';
import { asPrepared, type NotifyRequest } from './notify.ts';
import { Ooms } from './ooms.ts';
import { Processes } from './processes.ts';
import { ContainerRecord, exitOf } from './record.ts';
import { Recovery } from './recover.ts';
import { alreadyExists, notFound, notRunning, notStopped } from './refusals.ts';
import { Removal } from './removal.ts';
import { isRepeated, repeatedAs } from './repeats.ts';
import type { ResctrlChange } from './resctrl-update.ts';
import { ordinaryUser } from './rootless.ts';
import { type OpenUnit, Scopes } from './scopes.ts';
import { Starting } from './starting.ts';
import { lookAtStreams } from './stdio.ts';
import { StateStore, scopeFolder } from './store.ts';
import { assertResized } from './streams.ts';
import type {
  ContainerKey,
  ContainerRuntime,
  ContainerState,
  CreateRequest,
  ExecDefaults,
  ExecRequest,
  ExecState,
  ExitInfo,
  KeelName,
  Logger,
  OperationContext,
  RuntimeEvent,
} from './types.ts';
import { takeBack } from './update.ts';
import {
  assertCgroup,
  assertHierarchy,
  cgroupsOfRequest,
  cgroupsOfUser,
  USER_PARENT,
} from './user-cgroups.ts';
import { LATER_MS, sleep, unlessAborted } from './waiting.ts';

/** For the output of a process that nobody remembers. */
const UNKNOWN_DRAIN_MS = 10_000;
/** How long a command waits for a container that is being created and started. */
const STANDING_MS = 2000;

export interface RuntimeDependencies {
  keel: Keel;
  runDir: string;
  cgroups: CgroupHost;
  /** Folder, from the hierarchy's root, for containers that name no cgroup. */
  cgroupParent: string;
  /** This process is root of a user namespace only. */
  inUserNamespace?: boolean;
  /** keel and this process, where a caller started them on demand, in its own unit of systemd. */
  guests?: () => readonly number[];
  log: Logger;
  /** An event may not have reached everybody: does not return where another process can begin anew from what is written down. */
  onBroken?: (error: unknown) => void;
}

export class Runtime implements ContainerRuntime {
  readonly #keel: Keel;
  readonly #cgroups: CgroupHost;
  /** Not root: whose containers these are. */
  readonly #user = ordinaryUser();
  readonly #log: Logger;
  readonly #store: StateStore;
  readonly #cgroupParent: string;
  readonly #inUserNamespace: boolean;
  readonly #containers = new Map<string, ContainerRecord>();
  readonly #byToken = new Map<bigint, ContainerRecord>();
  readonly #processes: Processes;
  readonly #onBroken: RuntimeDependencies['onBroken'];
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #execs: Execs;
  readonly #loggers: Loggers;
  readonly #ooms: Ooms;
  readonly #scopes: Scopes;
  readonly #recovery: Recovery;
  readonly #removal: Removal;
  readonly #creation: Creation;
  readonly #changes: Changes;
  readonly #leaving: Leaving;
  readonly #starting: Starting;
  readonly #exits: Exits;
  /** Which life of keel this is. */
  #boot = 0n;
  /** Unique across restarts of wherryd: keel may still know tokens of the last one. */
  #lastToken = BigInt(Date.now()) << 20n;
  readonly #nextToken = (): bigint => this.#lastToken++;

  constructor(dependencies: RuntimeDependencies) {
    this.#keel = dependencies.keel;
    const { cgroups } = dependencies;
    this.#cgroups = this.#user === undefined ? cgroups : cgroupsOfUser(cgroups, this.#user.uid);
    this.#log = dependencies.log;
    this.#onBroken = dependencies.onBroken;
    this.#store = new StateStore(dependencies.runDir);
    this.#loggers = new Loggers(this.#keel);
    this.#execs = new Execs({
      keel: this.#keel,
      loggers: this.#loggers,
      cgroups: this.#cgroups,
      nextToken: this.#nextToken,
      emit: (event) => this.#emit(event),
      boot: () => this.#boot,
      onIdle: (record) => this.#exits.announce(record),
    });
    this.#cgroupParent = this.#user === undefined ? dependencies.cgroupParent : USER_PARENT;
    this.#inUserNamespace = dependencies.inUserNamespace === true;
    this.#recovery = new Recovery({
      keel: this.#keel,
      log: this.#log,
      undone: (record) => this.#leaving.undone(record, { requestId: 'recovery' }),
      forget: (record) => this.#forget(record),
      ended: (record) => {
        this.#exits.ended(record, 255 << 8, new Date(), false);
        this.#deleteOrphan(record);
      },
      held: (record) => this.#execs.anyActive(record),
      tell: (event) => this.#emit(event),
      takeBack: async (record) => {
        const { before = [], devices } = record.updating ?? {};
        await takeBack(before, this.#keel, this.#nextToken);
        record.updating = undefined;
        // Which rules hold now nobody knows: whatever comes next is set.
        if (devices === true) record.deviceRules = '';
        this.#store.save(record);
      },
    });
    const nextToken = this.#nextToken;
    this.#processes = new Processes(this.#keel, this.#cgroups, nextToken);
    this.#removal = new Removal(this.#cgroups.mode, nextToken);
    this.#creation = new Creation({
      keel: this.#keel,
      cgroups: this.#cgroups,
      user: this.#user,
      inUserNamespace: this.#inUserNamespace,
      removal: this.#removal,
      nextToken,
    });
    this.#scopes = new Scopes({
      mode: this.#cgroups.mode,
      keel: this.#keel,
      nextToken,
      isUser: this.#user !== undefined || this.#inUserNamespace,
      guests: dependencies.guests ?? (() => []),
      onProblem: (problem) => this.#log.warn('keel stays in the unit of its first caller', { problem }),
    });
    this.#ooms = new Ooms(
      this.#cgroups.mode,
      (event) => this.#emit(event),
      (problem) => this.#log.debug('out-of-memory kills are noticed only at the exit', { problem }),
    );
    const shared = {
      keel: this.#keel,
      processes: this.#processes,
      scopes: this.#scopes,
      store: this.#store,
      log: this.#log,
      nextToken,
      emit: (event: RuntimeEvent) => this.#emit(event),
    };
    this.#changes = new Changes({
      ...shared,
      cgroups: this.#cgroups,
      isKept: (record) => this.#isKept(record),
    });
    this.#exits = new Exits({
      ...shared,
      ooms: this.#ooms,
      isKnown: (record) => this.#byToken.has(record.token),
      hasExecs: (record) => this.#execs.anyActive(record),
    });
    this.#starting = new Starting({ ...shared, removal: this.#removal });
    this.#leaving = new Leaving({
      ...shared,
      loggers: this.#loggers,
      ooms: this.#ooms,
      removal: this.#removal,
    });
  }

  /**
   * Takes up what an earlier wherryd left, before keel is told that this one is ready: keel then tells who lives, who has ended, and
   * the calls that nobody has answered. `boot` is that of keel's HELLO.
   */
  takeUp(boot: bigint): void {
    this.#boot = boot;
    const records = this.adopt(undefined, (dir, error) => {
      this.#log.warn('state directory is damaged', { dir, error: String(error) });
      this.#store.setAside(dir);
    });
    for (const record of records) {
      record.wasStarted = !this.#store.hasFifo(record);
      this.#recovery.add(record, boot);
      this.#execs.takeUp(record);
    }
  }

  /** A pause or a resume may have been under way: the kernel knows how far it came. */
  #lookWhetherFrozen(record: ContainerRecord): void {
    if (record.status !== 'paused' && record.status !== 'pausing') return;
    record.pausedFrom = this.#store.hasFifo(record) ? 'created' : 'running';
    record.status = this.#processes.freezer(record).isFrozen() ? 'paused' : record.pausedFrom;
  }

  /** What the end of the last wherryd kept from its listeners. Those who have heard an event already leave it out. */
  tellAgain(): void {
    this.#recovery.tellAgain();
  }

  /** After all that keel knows was told: half-made containers go, and those that keel does not know are looked for. */
  async settle(): Promise<void> {
    await Promise.all([this.#recovery.settle(), this.#execs.settle()]);
    for (const record of this.#containers.values()) if (record.exit !== undefined) this.#deleteOrphan(record);
  }

  /** Remembers what lies in the run folder, or in `root`. */
  adopt(
    root?: string,
    damaged = (dir: string, error: unknown): void =>
      this.#log.warn('state directory is damaged', { dir, error: String(error) }),
  ): ContainerRecord[] {
    const records = this.#store.load(damaged, root);
    for (const record of records) {
      if (record.status === 'created' && !this.#store.hasFifo(record)) record.status = 'running';
      this.#lookWhetherFrozen(record);
      this.#remember(record);
      this.#ooms.watch(record);
    }
    return records;
  }

  async create(request: CreateRequest, context: OperationContext): Promise<ContainerState> {
    const name = keyName(request.key);
    const earlier = this.#containers.get(name);
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
    const dir = request.stateDir ?? this.#store.directory(request.key);
    const record = new ContainerRecord(request.key, this.#nextToken(), dir, request.bundle, request.stdio);
    record.rootfsMounts = request.rootfsMounts;
    record.settings = request.settings ?? {};
    record.createdBy = repeatedAs(context);
    record.startsAtOnce = request.startAtOnce === true;
    record.boot = this.#boot;
    this.#remember(record);
    let claimed = false;
    let home: Promise<unknown> | undefined;
    const atStart = request.restore?.atStart === true;
    // Of a restore that waits for its start they may be others by then.
    const looks = request.caller === undefined && !atStart ? lookAtStreams(request.stdio) : undefined;
    try {
      const { spec, helpers } = await readSpec(request, this.#asker(request.key));
      record.idHelpers = helpers;
      // Looked for while everything else is made ready: it needs the pool, which answers only in the next turns.
      const root = request.rootfsOverlay?.lower ?? rootfsOf(spec, request.bundle);
      const withItsHome = withHome(spec, root, request.rootfsMounts);
      home = withItsHome.catch(() => {});
      const cgroups = cgroupsOfRequest(this.#cgroups, request, this.#user !== undefined);
      if (request.systemdCgroup === true) assertHierarchy(cgroups);
      const unit =
        request.systemdCgroup === true ? await this.#scopes.unitOf(spec, request.key.id) : undefined;
      const cgroup = planCgroup(cgroups, {
        cgroupsPath: unit?.path ?? spec.linux?.cgroupsPath ?? '',
        defaultParent: this.#parentOf(request.key),
        id: folderName(request.key.id),
        resources: spec.linux?.resources,
        owner: this.#user === undefined ? cgroupOwner(spec) : undefined,
      });
      // Only root may load one; and a user namespace makes no device nodes.
      if (this.#user !== undefined || this.#inUserNamespace) delete cgroup.deviceProgram;
      const { paths, relative, remove, unwanted } = cgroup;
      record.cgroup = { paths, relative, remove, ...(unwanted && { unwanted }) };
      for (const warning of cgroup.warnings) this.#log.warn(warning, logFields(request.key));
      record.annotations = spec.annotations ?? {};
      record.command = commandText(spec.process.args);
      record.ociVersion = spec.ociVersion;
      record.hooks = laterHooks(spec.hooks);
      record.rootfs = rootfsOf(spec, request.bundle);
      const seccomp = spec.linux?.seccomp;
      const filter = seccomp === undefined ? undefined : await compileSeccomp(seccomp);
      // A scope is in the intent too: who undoes a half-made container stops it.
      record.unit = unit === undefined || isSliceName(unit.name) ? undefined : unit.name;
      record.endsAlone = canEndAlone(record, request);
      this.#store.claim(dir, request.key);
      claimed = true;
      fault('create.claimed');
      this.#store.save(record);
      fault('create.intent');
      record.execContext = execContextOf(spec, filter, request.noNewKeyring === true);
      // Only an exec under a later wherryd reads it: with its caller beside it a container has mostly ended before that.
      const saved = request.foreground === undefined ? saveFilter(dir, record.execContext) : undefined;
      saved?.catch(() => {});
      record.filtered = filter !== undefined;
      record.oomKills = oomKills(cgroup.paths, this.#cgroups.mode);
      const make = async () => {
        const scope = unit === undefined ? undefined : await this.#openScope(unit, record, spec);
        try {
          const rest = atStart ? { ...request, rootfsMounts: [], files: [] } : request;
          await this.#creation.play(rest, record, { given: spec, withItsHome }, cgroup, filter, looks);
        } finally {
          await scope?.leave();
        }
      };
      if (atStart) {
        record.execText = execContextText(record.execContext);
        await this.#creation.beforeRestore(request);
        record.restoreNow = make;
      } else {
        const made = make();
        // While that waits for the pool: whoever waits for the create does not wait for this.
        if (saved !== undefined) record.execText = execContextText(record.execContext);
        await made;
      }
      fault('create.played');
      this.#exits.watchOomsSoon(record);
      if (saved === undefined) this.#saveSoon(record);
      await saved;
      if (record.exit === undefined) record.status = request.startAtOnce === true ? 'running' : 'created';
      record.complete = true;
      this.#store.save(record);
      if (record.exit !== undefined) this.#keel.acknowledgeExit(record.token);
      fault('create.saved');
      // As in runc, what is restored has had its poststart hooks.
      if (request.startAtOnce === true && request.restore === undefined)
        await this.#starting.poststart(record, context);
    } catch (thrown) {
      // Nothing of ours stays open in the root.
      await home;
      if (claimed) await this.#leaving.undo(record, context);
      this.#forget(record);
      const error = WherryError.from(thrown);
      record.abandon(error);
      throw error;
    }
    const checkpoint = request.restore?.imagesDir;
    this.#emit({
      type: 'created',
      state: record.snapshot(),
      rootfsMounts: request.rootfsMounts,
      ...(checkpoint !== undefined && { checkpoint }),
    });
    if (request.startAtOnce === true) this.#emit({ type: 'started', state: record.snapshot() });
    // An init that ended meanwhile is told only now, so that no exit comes before its create and start.
    this.#exits.release(record);
    fault('create.told');
    return record.snapshot();
  }

  async start(key: ContainerKey, context: OperationContext, notify?: NotifyRequest): Promise<ContainerState> {
    const record = await this.#settled(key);
    if (record.adopted && record.status !== 'created' && (await this.#recovery.startedBy(record, context))) {
      return record.snapshot();
    }
    fault('start.begun');
    if (record.status === 'stopped') {
      throw new WherryError('failed-precondition', 'cannot start a container that has stopped');
    }
    if (record.status !== 'created') {
      throw new WherryError('failed-precondition', 'cannot start an already running container');
    }
    // From here on a second start finds it running, and an exit waits until the start was told.
    record.status = 'running';
    record.exitHeld = true;
    try {
      await this.#starting.letGo(record, context, notify);
      this.#emit({ type: 'started', state: { ...record.snapshot(), status: 'running' } });
      fault('start.told');
    } finally {
      this.#exits.release(record);
    }
    return record.snapshot();
  }

  state(key: ContainerKey): ContainerState {
    const state = this.find(key);
    if (state === undefined) throw notFound();
    return state;
  }

  find(key: ContainerKey): ContainerState | undefined {
    const record = this.#containers.get(keyName(key));
    return record?.gone === false ? record.snapshot() : undefined;
  }

  list(filter: Partial<ContainerKey> = {}): ContainerState[] {
    return [...this.#containers.values()]
      .filter(
        ({ key, gone }) =>
          !gone &&
          (filter.scope === undefined || key.scope === filter.scope) &&
          (filter.namespace === undefined || key.namespace === filter.namespace) &&
          (filter.id === undefined || key.id === filter.id),
      )
      .map((record) => record.snapshot());
  }

  async kill(key: ContainerKey, signal: number, all: boolean, context: OperationContext): Promise<void> {
    const record = await this.#settled(key);
    fault('kill.begun');
    if (record.status === 'stopped') {
      // With --all a container that is gone is what was asked for.
      if (all) return;
      // This very call may have ended it, and the wherryd that sent the signal died before it could say so.
      if (record.adopted && (await this.#keel.signal(record.token, signal, context.requestId)) === 0) return;
      throw notRunning();
    }
    if (record.restoreNow !== undefined) throw notRunning();
    await record.registered;
    if (signal === SIGKILL) record.killed = true;
    if (all && record.cgroup !== undefined) await this.#processes.signalAll(record, signal);
    else await this.#processes.signal(record, signal, context.requestId);
  }

  async delete(key: ContainerKey, force: boolean, context: OperationContext): Promise<ExitInfo> {
    const record = await this.#standing(key, force);
    fault('delete.begun');
    if (record.deleting) throw notFound();
    if (record.status === 'creating') {
      throw new WherryError('failed-precondition', `cannot delete container ${key.id} that is being created`);
    }
    if (record.status !== 'stopped' && record.status !== 'created' && !force) {
      throw notStopped(key.id, record.status);
    }
    record.deleting = true;
    try {
      if (record.restoreNow !== undefined) record.noteExit({ pid: 0, exitStatus: 0, exitedAt: new Date() });
      if (record.exit === undefined) await this.#processes.killAndWait(record);
      await this.#execs.forgetAll(record);
      await this.#leaving.removeAll(record, context);
      if (record.logger !== undefined) await this.#loggers.stop(record.logger);
    } catch (error) {
      record.deleting = false;
      this.#exits.keep(record);
      throw error;
    }
    this.#forget(record);
    return exitOf(record);
  }

  async wait(key: ContainerKey, context: OperationContext): Promise<ExitInfo> {
    return unlessAborted(this.#get(key).exited, context.signal);
  }

  async pids(key: ContainerKey): Promise<number[]> {
    return this.#processes.pids(this.#get(key));
  }

  async closeStdin(key: ContainerKey): Promise<void> {
    await this.#keel.closeStdin(this.#get(key).token);
  }

  async resize(key: ContainerKey, execId: string | undefined, rows: number, cols: number): Promise<void> {
    const record = this.#get(key);
    const token = execId === undefined ? record.token : this.#execs.token(record, execId);
    assertResized(await this.#keel.resize(token, rows, cols));
  }

  async stats(key: ContainerKey): Promise<CgroupStats> {
    const record = this.#get(key);
    assertCgroup(record, this.#cgroups, 'read statistics');
    return this.#processes.reader(record).sample();
  }

  noteExit(key: ContainerKey, waitStatus: number): void {
    const record = this.#containers.get(keyName(key));
    if (record !== undefined) this.#exits.ended(record, waitStatus, new Date());
  }

  async pause(key: ContainerKey, context: OperationContext): Promise<void> {
    await this.#changes.pause(await this.#standing(key), context);
  }

  async resume(key: ContainerKey, context: OperationContext): Promise<void> {
    await this.#changes.resume(await this.#settled(key), context);
  }

  async update(
    key: ContainerKey,
    resources: LinuxResources,
    context: OperationContext,
    resctrl?: ResctrlChange,
  ): Promise<string[]> {
    return this.#changes.update(await this.#standing(key), resources, context, resctrl);
  }

  async checkpoint(key: ContainerKey, options: CheckpointOptions, context: OperationContext): Promise<void> {
    const record = await this.#standing(key);
    if (record.status !== 'running' && record.status !== 'paused') {
      throw new WherryError(
        'failed-precondition',
        `container cannot be checkpointed in ${record.status} state`,
        { path: 'id' },
      );
    }
    const config = asPrepared(await readBundle(record.bundle), record.dir);
    const host = context.host ?? this.#keel;
    const nextToken = this.#nextToken;
    await checkpointContainer(record, config, options, { cgroups: this.#cgroups, host, nextToken });
    this.#emit({ type: 'checkpointed', state: record.snapshot(), path: options.imagesDir });
    if (options.leaveRunning !== true && options.preDump !== true) await this.#endOfDumped(record);
  }

  /** criu has killed it; who its parent is tells so in a moment, and where nobody can (without keel), the process table does. */
  async #endOfDumped(record: ContainerRecord): Promise<void> {
    for (let wait = 1; record.exit === undefined && wait < 4000; wait *= 2) {
      await sleep(wait);
      if (record.exit === undefined && this.#boot === 0n && !isAlive(record.pid, record.startTime))
        this.#exits.ended(record, SIGKILL, new Date());
    }
  }

  async addMounts(key: ContainerKey, mounts: readonly Mount[], context: OperationContext): Promise<void> {
    const record = await this.#standing(key);
    await addMounts(record, mounts, await this.#mountsOf(record, context));
  }

  async removeMounts(
    key: ContainerKey,
    destinations: readonly string[],
    context: OperationContext,
  ): Promise<void> {
    const record = await this.#standing(key);
    await removeMounts(record, destinations, await this.#mountsOf(record, context));
  }

  async #mountsOf(record: ContainerRecord, { host }: OperationContext): Promise<LiveMountsDependencies> {
    if (record.exit !== undefined || record.status === 'creating') throw notRunning('failed-precondition');
    return {
      context: await this.#processes.context(record),
      unprivileged: this.#user !== undefined,
      host: host ?? this.#keel,
      nextToken: this.#nextToken,
      save: () => {
        if (this.#isKept(record)) this.#store.save(record);
      },
    };
  }

  async exec(request: ExecRequest, context: OperationContext): Promise<ExecState> {
    return this.#execs.add(await this.#standing(request.key), request, context);
  }

  startExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExecState> {
    return this.#execs.start(this.#get(key), execId, context);
  }

  execState(key: ContainerKey, execId: string): ExecState {
    return this.#execs.state(this.#get(key), execId);
  }

  async waitExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExitInfo> {
    return unlessAborted(this.#execs.exited(this.#get(key), execId), context.signal);
  }

  killExec(key: ContainerKey, execId: string, signal: number): Promise<void> {
    return this.#execs.kill(this.#get(key), execId, signal);
  }

  deleteExec(key: ContainerKey, execId: string): Promise<ExitInfo> {
    return this.#execs.delete(this.#get(key), execId);
  }

  async closeExecStdin(key: ContainerKey, execId: string): Promise<void> {
    await this.#execs.closeStdin(this.#get(key), execId);
  }

  listExecs(key: ContainerKey): ExecState[] {
    return this.#execs.list(this.#get(key));
  }

  async removeForeign(stateDir: string, bundle: string): Promise<boolean> {
    const found = await readForeign(stateDir, bundle);
    if (found === undefined) return false;
    await removeForeign(found, {
      keel: this.#keel,
      cgroups: this.#cgroups,
      nextToken: this.#nextToken,
    });
    return true;
  }

  noteExecExit(key: ContainerKey, execId: string, waitStatus: number): void {
    const record = this.#containers.get(keyName(key));
    if (record !== undefined) this.#execs.noteExit(record, execId, exitStatusOf(waitStatus));
  }

  async execDefaults(key: ContainerKey): Promise<ExecDefaults> {
    const record = this.#get(key);
    return (await this.#processes.context(record)).process;
  }

  keelName(key: ContainerKey, execId?: string): KeelName {
    const record = this.#get(key);
    if (execId !== undefined) return { token: this.#execs.token(record, execId), fifo: '' };
    return { token: record.token, fifo: record.fifo };
  }

  onEvent(listener: (event: RuntimeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** From keel: a play's init said who it is. */
  onRegistered(registration: Registration): void {
    if (this.#execs.onRegistered(registration)) return;
    const { token, pid, startTime, pidfdInode } = registration;
    this.#leaving.onRegistered(token);
    const record = this.#byToken.get(token);
    record?.noteRegistered(pid, startTime, pidfdInode);
    if (record?.unsettled !== undefined) this.#recovery.found(record);
  }

  /** From keel: a registered init ended. */
  onExit(exit: ProcessExit): void {
    const waitStatus = exit.known ? exit.waitStatus : 255 << 8;
    if (this.#execs.onExit(exit, exitStatusOf(waitStatus)) || this.#loggers.onExit(exit)) return;
    const record = this.#byToken.get(exit.token);
    // Unknown: deleted meanwhile. Without a status the parent tells it (noteExit) or nobody can.
    if (record === undefined) {
      this.#keel.acknowledgeExit(exit.token);
      void this.#keel.release(exit.token, UNKNOWN_DRAIN_MS);
      return;
    }
    this.#exits.ended(record, waitStatus, exit.time, exit.known);
    this.#exits.keepSoon(record);
    this.#deleteOrphan(record);
  }

  /** The wherryd that was to take it away at its end has died; and its client, if it lives, says no more than that it has ended. */
  #deleteOrphan(record: ContainerRecord): void {
    if (!record.adopted || !record.endsAlone || !record.complete || record.deleting) return;
    this.delete(record.key, true, { requestId: 'orphan' }).catch((error: unknown) => {
      this.#log.warn('a container that has ended could not be deleted', {
        ...logFields(record.key),
        error: String(error),
      });
    });
  }

  /** Before a forced end of the daemon: every container is killed and taken away. Never rejects. */
  async deleteAll(context: OperationContext): Promise<void> {
    const all = this.list().map(({ key }) => this.delete(key, true, context));
    for (const result of await Promise.allSettled(all)) {
      if (result.status === 'rejected')
        this.#log.warn('a container could not be deleted', { error: String(result.reason) });
    }
  }

  /** At the daemon's end: the folder that held containers' cgroups goes too, if it is empty. */
  close(): void {
    this.#ooms.close();
    this.#scopes.close();
    const mounts = [...this.#cgroups.hierarchies, this.#cgroups.unified].flatMap(
      (found) => found?.mountPoint ?? [],
    );
    for (const mount of mounts) {
      const parent = `${mount}${this.#cgroupParent}`;
      // Only the folders of scopes: another daemon may just be making a container's own.
      const scopes = foldersIn(parent).filter((name) => /^(local|[0-9a-f]{16})-/.test(name));
      for (const folder of [...scopes.map((name) => `${parent}/${name}`), parent]) {
        try {
          rmdirSync(folder);
        } catch {
          // Never made, or still in use by somebody.
        }
      }
    }
  }

  /** The tape of a bundle as text; nothing is played. */
  async explain(bundle: string, id: string): Promise<string> {
    const key = { scope: '', namespace: 'default', id };
    return explainBundle(bundle, id, {
      ...this.#asker(key),
      cgroups: this.#cgroups,
      cgroupParent: this.#parentOf(key),
      stateDir: this.#store.directory(key),
    });
  }

  #asker(key: ContainerKey): Asker {
    return {
      user: this.#user,
      unified: this.#cgroups.mode === 'v2',
      warn: (message) => this.#log.warn(message, logFields(key)),
    };
  }

  async #openScope(unit: SystemdUnit, record: ContainerRecord, spec: Spec): Promise<OpenUnit> {
    try {
      const scope = await this.#scopes.open(unit, record.key.id, spec, record.cgroup?.paths ?? {});
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
        this.#log.warn('cannot remember what an exec needs', {
          ...logFields(record.key),
          error: String(error),
        });
      });
    }, LATER_MS).unref();
  }

  async #saveExecContext(record: ContainerRecord): Promise<void> {
    if (record.execContext === undefined || record.exit !== undefined || !this.#isKept(record)) return;
    await saveFilter(record.dir, record.execContext);
    if (record.exit !== undefined || !this.#isKept(record)) return;
    record.execText = execContextText(record.execContext);
    this.#store.save(record);
  }

  /** Cgroups of containers that name none: the same id in two namespaces must not meet there. */
  #parentOf({ scope, namespace }: ContainerKey): string {
    return scope === '' && namespace === 'default'
      ? this.#cgroupParent
      : `${this.#cgroupParent}/${scopeFolder(scope)}-${namespace}`;
  }

  /** Neither deleted nor about to be. */
  #isKept(record: ContainerRecord): boolean {
    return !record.deleting && this.#byToken.has(record.token);
  }

  #remember(record: ContainerRecord): void {
    this.#containers.set(keyName(record.key), record);
    this.#byToken.set(record.token, record);
  }

  #forget(record: ContainerRecord): void {
    this.#containers.delete(keyName(record.key));
    this.#byToken.delete(record.token);
    record.noteForgotten();
  }

  /** Once it is known what has become of a container that an earlier wherryd left. */
  async #settled(key: ContainerKey): Promise<ContainerRecord> {
    const record = this.#get(key);
    if (record.unsettled === undefined) return record;
    await record.unsettled.promise;
    return this.#get(key);
  }

  /**
   * For what needs a living init: its output may be seen, and somebody may act on that, a moment before its create is answered. Longer
   * than that only its hooks can take, and one of them may be the caller.
   */
  async #standing(key: ContainerKey, always = false): Promise<ContainerRecord> {
    const record = await this.#settled(key);
    if (record.status !== 'creating' || !(record.startsAtOnce || always)) return record;
    await Promise.race([record.made, sleep(STANDING_MS)]);
    return this.#get(key);
  }

  #get(key: ContainerKey): ContainerRecord {
    const record = this.#containers.get(keyName(key));
    if (record === undefined) throw notFound();
    return record;
  }

  #emit(event: RuntimeEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#log.error('a listener failed', { event: event.type, error: String(error) });
        this.#onBroken?.(error);
      }
    }
  }
}
