/** One container as wherryd remembers it, and what of that is written to its state directory. */
import type { CgroupPlan } from '../cgroup/plan.ts';
import type { CgroupWrite } from '../cgroup/setting.ts';
import type { IdHelpers } from './compile/input.ts';
import type { ExecContext } from './exec-context.ts';
import type { ExecRecord } from './exec-record.ts';
import type { LaterHooks } from './hooks.ts';
import type { PlayResult } from './play.ts';
import { nothingWritten, type StatePlace } from './state-file.ts';
import type {
  ContainerKey,
  ContainerState,
  ContainerStatus,
  ExitInfo,
  ExitReason,
  MountSpec,
  ProcessSettings,
  StdioPaths,
} from './types.ts';

/** The part that outlives wherryd: state.json. Big integers are decimal text. */
export interface StoredContainer {
  version: 1;
  key: ContainerKey;
  token: string;
  /** The call that made it, while the keel of this boot id lives. */
  createdBy?: string;
  boot?: string;
  status: ContainerStatus;
  pid: number;
  /** Field 22 of /proc/PID/stat, so that a recycled pid is never taken for the init; '0': not known yet. */
  startTime: string;
  /** Of the init's pidfd; '0': the kernel has none. */
  pidfdInode?: string;
  bundle: string;
  rootfs: string;
  stdio: StdioPaths;
  /** RFC 3339. */
  createdAt: string;
  exit?: { pid: number; exitStatus: number; exitedAt: string; reason?: ExitReason; signal?: number };
  /** The pause or resume that was begun last: its call, while the keel of `boot` lives. */
  frozenBy?: string;
  /** What an update that runs writes back if it does not come to its end. */
  updating?: Updating;
  oomKills?: number;
  oomCgroup?: string;
  deviceRules?: string;
  addedMounts?: { destination: string; mountId: string }[];
  unit?: string;
  resctrl?: { tasks: string[]; remove: string[] };
  annotations: Record<string, string>;
  command?: string;
  ociVersion: string;
  rootfsMounts: MountSpec[];
  /** Token of its logger (binary://). */
  logger?: string;
  cgroup: Pick<CgroupPlan, 'paths' | 'relative' | 'remove' | 'unwanted'> | undefined;
  hooks?: LaterHooks;
  settings?: ProcessSettings;
  /** Nobody else deletes it: it goes at its end. */
  endsAlone?: boolean;
}

export interface Updating {
  before: CgroupWrite[];
  /** Its device rules change, too. */
  devices: boolean;
}

export class ContainerRecord {
  readonly key: ContainerKey;
  readonly token: bigint;
  /** The state directory. */
  readonly dir: string;
  readonly bundle: string;
  rootfs = '';
  stdio: StdioPaths;
  #status: ContainerStatus = 'creating';
  /** Its create starts it, too: nobody waits between the two. */
  startsAtOnce = false;
  createdBy = '';
  boot = 0n;
  /** Left by an earlier wherryd. */
  adopted = false;
  /** Its create has come to its end, and is written down. Until then nothing else is: what is half made is undone. */
  complete = false;
  /** Settles when it is known what has become of it; undefined: it is known. */
  unsettled: PromiseWithResolvers<void> | undefined;
  /** Of one that is undone: closes the streams that are kept for the create that comes again. */
  letGo: (() => void) | undefined;
  frozenBy = '';
  updating: Updating | undefined;
  /** What `resume` goes back to. */
  pausedFrom: ContainerStatus = 'running';
  pid = 0;
  startTime = 0n;
  pidfdInode = 0n;
  createdAt = new Date();
  exit: ExitInfo | undefined;
  /** systemd's unit whose cgroup it has. */
  unit: string | undefined;
  oomKills = 0;
  oomCgroup: string | undefined;
  /** Kills by cgroup, as far as looked: which of them grew is where the last kill was. */
  readonly oomCounts = new Map<string, number>();
  /** The rules that an update gave it, as JSON; undefined: those of its bundle. */
  deviceRules: string | undefined;
  /** By `mounts add`, in that order; id 0: it was being made when wherryd died. */
  addedMounts: { destination: string; mountId: string }[] = [];
  /** Kills that no event has told yet. */
  oomUntold = false;
  /** We sent the init SIGKILL. */
  killed = false;
  /** Its processes have a seccomp filter. */
  filtered = false;
  annotations: Record<string, string> = {};
  command = '';
  ociVersion = '';
  /** Of an ordinary user's: what writes its maps of ids. */
  idHelpers: IdHelpers = {};
  rootfsMounts: MountSpec[] = [];
  /** Groups of resctrl: what an exec enters, what goes at delete. */
  resctrl: { tasks: string[]; remove: string[] } | undefined;
  /** Token of its logger (binary://). */
  logger: bigint | undefined;
  cgroup: StoredContainer['cgroup'];
  hooks: LaterHooks | undefined;
  settings: ProcessSettings = {};
  /** What further processes need of config.json; undefined: not read back yet after a restart. */
  execContext: ExecContext | undefined;
  /** What state.json keeps of it; '': not yet. */
  execText = '';
  /** By exec id, in the order in which they were added. */
  readonly execs = new Map<string, ExecRecord>();
  /** While create or start runs: an exit must not be told before them. */
  exitHeld = true;
  exitTold = false;
  /** The caller's client removes mounts and cgroups by itself; settles with what came of it. */
  cleanup: Promise<PlayResult | undefined> | undefined;
  /** Its image waits to be restored by `start`. */
  restoreNow: (() => Promise<void>) | undefined;
  /** What lies where in state.json. */
  statePlace: StatePlace = nothingWritten;
  /** True once a delete runs: a second one waits for nothing. */
  deleting = false;
  /** Once nothing but the state is left of it, its caller's client ends without waiting for us: it is deleted then, whatever happens. */
  endsAlone = false;
  /** That client has ended: nobody finds this container any more, and its name is free as soon as it is forgotten. */
  gone = false;
  readonly #forgotten = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<ExitInfo>();
  readonly #registered = Promise.withResolvers<void>();
  readonly #made = Promise.withResolvers<void>();

  constructor(key: ContainerKey, token: bigint, dir: string, bundle: string, stdio: StdioPaths) {
    this.key = key;
    this.token = token;
    this.dir = dir;
    this.bundle = bundle;
    this.stdio = stdio;
    this.#exited.promise.catch(() => {});
  }

  /** Settles at the exit; rejects if the container is removed before it ever ran. */
  get exited(): Promise<ExitInfo> {
    return this.#exited.promise;
  }

  get status(): ContainerStatus {
    return this.#status;
  }

  set status(status: ContainerStatus) {
    this.#status = status;
    if (status !== 'creating') this.#made.resolve();
  }

  /** Settles when it is no longer being created, whatever came of that. */
  get made(): Promise<void> {
    return this.#made.promise;
  }

  get registered(): Promise<void> {
    return this.#registered.promise;
  }

  noteRegistered(pid: number, startTime: bigint, pidfdInode = 0n): void {
    this.pid = pid;
    this.startTime = startTime;
    this.pidfdInode = pidfdInode;
    this.#registered.resolve();
  }

  noteExit(exit: ExitInfo): void {
    this.exit = exit;
    this.status = 'stopped';
    this.#exited.resolve(exit);
  }

  /** Settles when its name may be used again. */
  get forgotten(): Promise<void> {
    return this.#forgotten.promise;
  }

  noteForgotten(): void {
    this.#forgotten.resolve();
  }

  abandon(reason: Error): void {
    this.#made.resolve();
    this.#exited.reject(reason);
  }

  /** Set while a stopped container is read back: its FIFO was gone. */
  wasStarted = true;

  get fifo(): string {
    return `${this.dir}/exec.fifo`;
  }

  snapshot(): ContainerState {
    return {
      key: this.key,
      status: this.status,
      pid: this.pid,
      bundle: this.bundle,
      rootfs: this.rootfs,
      stdio: this.stdio,
      createdAt: this.createdAt,
      exit: this.exit,
      oomKills: this.oomKills,
      oomCgroup: this.oomCgroup,
      annotations: this.annotations,
      command: this.command,
      ociVersion: this.ociVersion,
      cgroups: this.cgroup?.paths ?? {},
    };
  }

  stored(): StoredContainer {
    return {
      version: 1,
      key: this.key,
      token: this.token.toString(),
      createdBy: this.createdBy,
      boot: this.boot.toString(),
      status: this.status,
      pid: this.pid,
      startTime: this.startTime.toString(),
      pidfdInode: this.pidfdInode.toString(),
      bundle: this.bundle,
      rootfs: this.rootfs,
      stdio: this.stdio,
      createdAt: this.createdAt.toISOString(),
      ...(this.exit === undefined
        ? {}
        : { exit: { ...this.exit, exitedAt: this.exit.exitedAt.toISOString() } }),
      ...(this.unit !== undefined && { unit: this.unit }),
      ...(this.frozenBy !== '' && { frozenBy: this.frozenBy }),
      ...(this.updating !== undefined && { updating: this.updating }),
      ...(this.oomKills > 0 && { oomKills: this.oomKills, oomCgroup: this.oomCgroup }),
      ...(this.deviceRules !== undefined && { deviceRules: this.deviceRules }),
      ...(this.addedMounts.length > 0 && { addedMounts: this.addedMounts }),
      annotations: this.annotations,
      command: this.command,
      ociVersion: this.ociVersion,
      rootfsMounts: this.rootfsMounts,
      ...(this.resctrl !== undefined && { resctrl: this.resctrl }),
      ...(this.logger !== undefined && { logger: this.logger.toString() }),
      cgroup: this.cgroup,
      ...(this.hooks !== undefined && { hooks: this.hooks }),
      ...(Object.keys(this.settings).length > 0 && { settings: this.settings }),
      ...(this.endsAlone && { endsAlone: true }),
    };
  }
}

/** For one that was killed and whose exit nobody has told: 137. */
export function exitOf(record: ContainerRecord): ExitInfo {
  return record.exit ?? { pid: record.pid, exitStatus: 137, exitedAt: new Date() };
}
