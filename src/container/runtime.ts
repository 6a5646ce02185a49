/**
 * The runtime core: containers by name, their life from create to delete. It decides; keel or the client acts.
 * Lives here: the state machine, and who does what. Not here: a create's own order (making.ts), how a config becomes system calls
 * (compile/), RPC, argv.
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { removeParents } from '../cgroup/parents.ts';
import type { CgroupStats } from '../cgroup/stats.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { SIGKILL } from '../linux/constants.ts';
import { isAlive } from '../linux/pidfd.ts';
import type { LinuxResources, Mount } from '../oci/types.ts';
import { readBundle } from './bundle-spec.ts';
import { Changes } from './changes.ts';
import { Containers } from './containers.ts';
import { Creation } from './creation.ts';
import { checkpointContainer } from './criu/checkpoint.ts';
import type { CheckpointOptions } from './criu/options.ts';
import { Execs } from './execs.ts';
import { exitStatusOf } from './exit-reason.ts';
import { Exits } from './exits.ts';
import { explainBundle } from './explain.ts';
import { readForeign, removeForeign } from './foreign.ts';
import { type HostPsRequest, hostPs, linesOf } from './host-ps.ts';
import type { Keel, ProcessExit, Registration } from './keel.ts';
import { logFields } from './key.ts';
import { Leaving } from './leaving.ts';
import { addMounts, type LiveMountsDependencies, removeMounts } from './live-mounts.ts';
import { Loggers } from './loggers.ts';
import { Making } from './making.ts';
import { asPrepared, type NotifyRequest } from './notify.ts';
import { Ooms } from './ooms.ts';
import { Planning } from './planning.ts';
import { Processes } from './processes.ts';
import { type ContainerRecord, exitOf } from './record.ts';
import { Recovery } from './recover.ts';
import { notFound, notRunning, notStopped } from './refusals.ts';
import { Removal } from './removal.ts';
import type { ResctrlChange } from './resctrl-update.ts';
import { ordinaryUser } from './rootless.ts';
import { Scopes } from './scopes.ts';
import { Starting } from './starting.ts';
import { StateStore } from './store.ts';
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
import { assertCgroup, cgroupsOfUser, USER_PARENT } from './user-cgroups.ts';
import { sleep, unlessAborted } from './waiting.ts';

/** For the output of a process that nobody remembers. */
const UNKNOWN_DRAIN_MS = 10_000;

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
  readonly #runDir: string;
  readonly #containers = new Containers();
  readonly #processes: Processes;
  readonly #onBroken: RuntimeDependencies['onBroken'];
  readonly #listeners = new Set<(event: RuntimeEvent) => void>();
  readonly #execs: Execs;
  readonly #loggers: Loggers;
  readonly #ooms: Ooms;
  readonly #scopes: Scopes;
  readonly #recovery: Recovery;
  readonly #removal: Removal;
  readonly #planning: Planning;
  readonly #making: Making;
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
    this.#runDir = dependencies.runDir;
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
    const inUserNamespace = dependencies.inUserNamespace === true;
    this.#recovery = new Recovery({
      keel: this.#keel,
      log: this.#log,
      undone: (record) => this.#leaving.undone(record, { requestId: 'recovery' }),
      forget: (record) => this.#containers.forget(record),
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
    this.#scopes = new Scopes({
      mode: this.#cgroups.mode,
      keel: this.#keel,
      nextToken,
      isUser: this.#user !== undefined || inUserNamespace,
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
      isKept: (record) => this.#containers.isKept(record),
    });
    this.#exits = new Exits({
      ...shared,
      ooms: this.#ooms,
      isKnown: (record) => this.#containers.withToken(record.token) !== undefined,
      hasExecs: (record) => this.#execs.anyActive(record),
    });
    this.#starting = new Starting({ ...shared, removal: this.#removal });
    this.#leaving = new Leaving({
      ...shared,
      loggers: this.#loggers,
      ooms: this.#ooms,
      removal: this.#removal,
    });
    const where = { ...shared, cgroups: this.#cgroups, user: this.#user, inUserNamespace };
    this.#planning = new Planning({ ...where, cgroupParent: this.#cgroupParent });
    this.#making = new Making({
      ...shared,
      cgroupMode: this.#cgroups.mode,
      containers: this.#containers,
      planning: this.#planning,
      creation: new Creation({ ...where, removal: this.#removal }),
      exits: this.#exits,
      leaving: this.#leaving,
      starting: this.#starting,
      boot: () => this.#boot,
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
    for (const record of this.#containers.all()) if (record.exit !== undefined) this.#deleteOrphan(record);
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
      this.#containers.add(record);
      this.#ooms.watch(record);
    }
    return records;
  }

  create(request: CreateRequest, context: OperationContext): Promise<ContainerState> {
    return this.#making.create(request, context);
  }

  async start(key: ContainerKey, context: OperationContext, notify?: NotifyRequest): Promise<ContainerState> {
    const record = await this.#containers.settled(key);
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
    const record = this.#containers.named(key);
    return record?.gone === false ? record.snapshot() : undefined;
  }

  list(filter: Partial<ContainerKey> = {}): ContainerState[] {
    return this.#containers.list(filter);
  }

  async kill(key: ContainerKey, signal: number, all: boolean, context: OperationContext): Promise<void> {
    const record = await this.#containers.settled(key);
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
    const record = await this.#containers.standing(key, force);
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
    this.#containers.forget(record);
    return exitOf(record);
  }

  async wait(key: ContainerKey, context: OperationContext): Promise<ExitInfo> {
    return unlessAborted(this.#containers.get(key).exited, context.signal);
  }

  async pids(key: ContainerKey): Promise<number[]> {
    return this.#processes.pids(this.#containers.get(key));
  }

  async processTable(key: ContainerKey, request: HostPsRequest, { host }: OperationContext): Promise<string> {
    const record = this.#containers.get(key);
    const pids = record.exit === undefined ? await this.#processes.pids(record) : [];
    const place = { host: host ?? this.#keel, token: this.#nextToken(), runDir: this.#runDir };
    return linesOf(pids, await hostPs(request, place));
  }

  async closeStdin(key: ContainerKey): Promise<void> {
    await this.#keel.closeStdin(this.#containers.get(key).token);
  }

  async resize(key: ContainerKey, execId: string | undefined, rows: number, cols: number): Promise<void> {
    const record = this.#containers.get(key);
    const token = execId === undefined ? record.token : this.#execs.token(record, execId);
    assertResized(await this.#keel.resize(token, rows, cols));
  }

  async stats(key: ContainerKey): Promise<CgroupStats> {
    const record = this.#containers.get(key);
    assertCgroup(record, this.#cgroups, 'read statistics');
    return this.#processes.reader(record).sample();
  }

  noteExit(key: ContainerKey, waitStatus: number): void {
    const record = this.#containers.named(key);
    if (record !== undefined) this.#exits.ended(record, waitStatus, new Date());
  }

  async pause(key: ContainerKey, context: OperationContext): Promise<void> {
    await this.#changes.pause(await this.#containers.standing(key), context);
  }

  async resume(key: ContainerKey, context: OperationContext): Promise<void> {
    await this.#changes.resume(await this.#containers.settled(key), context);
  }

  async update(
    key: ContainerKey,
    resources: LinuxResources,
    context: OperationContext,
    resctrl?: ResctrlChange,
  ): Promise<string[]> {
    return this.#changes.update(await this.#containers.standing(key), resources, context, resctrl);
  }

  async checkpoint(key: ContainerKey, options: CheckpointOptions, context: OperationContext): Promise<void> {
    const record = await this.#containers.standing(key);
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
    const record = await this.#containers.standing(key);
    await addMounts(record, mounts, await this.#mountsOf(record, context));
  }

  async removeMounts(
    key: ContainerKey,
    destinations: readonly string[],
    context: OperationContext,
  ): Promise<void> {
    const record = await this.#containers.standing(key);
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
        if (this.#containers.isKept(record)) this.#store.save(record);
      },
    };
  }

  async exec(request: ExecRequest, context: OperationContext): Promise<ExecState> {
    return this.#execs.add(await this.#containers.standing(request.key), request, context);
  }

  startExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExecState> {
    return this.#execs.start(this.#containers.get(key), execId, context);
  }

  execState(key: ContainerKey, execId: string): ExecState {
    return this.#execs.state(this.#containers.get(key), execId);
  }

  async waitExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExitInfo> {
    return unlessAborted(this.#execs.exited(this.#containers.get(key), execId), context.signal);
  }

  killExec(key: ContainerKey, execId: string, signal: number): Promise<void> {
    return this.#execs.kill(this.#containers.get(key), execId, signal);
  }

  deleteExec(key: ContainerKey, execId: string): Promise<ExitInfo> {
    return this.#execs.delete(this.#containers.get(key), execId);
  }

  async closeExecStdin(key: ContainerKey, execId: string): Promise<void> {
    await this.#execs.closeStdin(this.#containers.get(key), execId);
  }

  listExecs(key: ContainerKey): ExecState[] {
    return this.#execs.list(this.#containers.get(key));
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
    const record = this.#containers.named(key);
    if (record !== undefined) this.#execs.noteExit(record, execId, exitStatusOf(waitStatus));
  }

  async execDefaults(key: ContainerKey): Promise<ExecDefaults> {
    const record = this.#containers.get(key);
    return (await this.#processes.context(record)).process;
  }

  keelName(key: ContainerKey, execId?: string): KeelName {
    const record = this.#containers.get(key);
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
    const record = this.#containers.withToken(token);
    record?.noteRegistered(pid, startTime, pidfdInode);
    if (record?.unsettled !== undefined) this.#recovery.found(record);
  }

  /** From keel: a registered init ended. */
  onExit(exit: ProcessExit): void {
    const waitStatus = exit.known ? exit.waitStatus : 255 << 8;
    if (this.#execs.onExit(exit, exitStatusOf(waitStatus)) || this.#loggers.onExit(exit)) return;
    const record = this.#containers.withToken(exit.token);
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
    removeParents(this.#cgroups, this.#cgroupParent);
  }

  /** The tape of a bundle as text; nothing is played. */
  async explain(bundle: string, id: string): Promise<string> {
    const key = { scope: '', namespace: 'default', id };
    return explainBundle(bundle, id, {
      ...this.#planning.asker(key),
      cgroups: this.#cgroups,
      cgroupParent: this.#planning.parentOf(key),
      stateDir: this.#store.directory(key),
    });
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
