/**
 * The face of the runtime core: what the task service, the CLI and the stats stream may ask of it.
 * Nothing here knows RPC, containerd or argv.
 */
import type { CgroupStats } from '../cgroup/stats.ts';
import type { LinuxResources, Mount, Process, Spec } from '../oci/types.ts';
import type { CheckpointOptions, RestoreOptions } from './criu/options.ts';
import type { HostPsRequest } from './host-ps.ts';
import type { NotifyRequest } from './notify.ts';
import type { PlayHost } from './play.ts';
import type { ResctrlChange } from './resctrl-update.ts';

/** A container's name: the same id in two scopes or namespaces is two containers. */
export interface ContainerKey {
  /** Who owns it: containerd's address, or the CLI's `--root`, or '' for a local gRPC caller. */
  scope: string;
  namespace: string;
  id: string;
}

/** A mount as containerd's snapshotters and config.json give it (fstab-like options). */
export interface MountSpec {
  type: string;
  source: string;
  /** Relative to the root filesystem; '' is the root itself. */
  target: string;
  options: string[];
}

/** Paths of FIFOs or files; '' is /dev/null. */
export interface StdioPaths {
  stdin: string;
  stdout: string;
  stderr: string;
  terminal: boolean;
}

export type ContainerStatus = 'creating' | 'created' | 'running' | 'pausing' | 'paused' | 'stopped';

/** How the init ended. */
export interface ExitInfo {
  pid: number;
  /** 0-255, or 128 + signal. */
  exitStatus: number;
  exitedAt: Date;
  /** Of an init; undefined: nobody knows. */
  reason?: ExitReason;
  /** Which signal ended it; undefined: none. */
  signal?: number;
}

/** `oom-killed`: by the kernel for want of memory; `seccomp`: by its own filter. */
export type ExitReason = 'exited' | 'signaled' | 'core-dumped' | 'oom-killed' | 'seccomp';

/** What only a caller on the command line has: the process that plays the tape and what it hands on. */
export interface CallerContext {
  host: PlayHost;
  /** Its process, as wherryd sees it. */
  pid?: number;
  /** 022 and so on; used where config.json names none. */
  umask: number;
  /** Soft and hard of RLIMIT 0-15 of the caller. */
  rlimits: readonly (readonly [bigint, bigint])[];
  oomScoreAdj: number;
  nice: number;
  /** Inode of its network namespace; 0: unknown. */
  network?: bigint;
  /** Written by temp name and rename, decimal, no newline, in the caller's pid namespace. */
  pidFile?: string;
  /** AF_UNIX socket that gets the pty master by SCM_RIGHTS. */
  consoleSocket?: string;
  /** AF_UNIX socket that gets a pidfd of the process by SCM_RIGHTS. */
  pidfdSocket?: string;
  /** The pty master goes to the host over descriptor 5 (foreground `run` with a terminal). */
  relayConsole?: boolean;
  consoleSize?: { rows: number; cols: number };
  /** Descriptors 3..2+n of the caller are kept for the container. */
  preserveFds: number;
  /** Its service manager waits until the program says that it is ready. */
  notify?: NotifyRequest;
}

/** What a shim's caller says once for the init, every exec and every logger of a container. */
export interface ProcessSettings {
  /** Owner of stdio for user-namespaced containers: ids of the host. */
  ioUid?: number;
  ioGid?: number;
  /** An existing cgroup, from the root of each hierarchy, for what is not the container's own: players, hooks, loggers. */
  playerCgroup?: string;
  /** Shares a core's threads with nothing but itself (core-scheduling.rst in the kernel's admin-guide). */
  schedCore?: boolean;
  /** How long a delete waits for output that keel still copies, in ms. */
  drainMs?: number;
}

/** A small file for others to read, in a shim's bundle. */
export interface BundleFile {
  /** Absolute. */
  path: string;
  text: string;
  mode: number;
  /** One that is there already stays as it is. */
  keep?: boolean;
}

/** A root filesystem that is a copy-on-write view of a folder of the host. */
export interface RootfsOverlay {
  lower: string;
  /** Of `lower`: where the folder as a whole cannot be shown, they are shown one by one (compile/host-view.ts). */
  entries?: readonly HostEntry[];
}

/** `empty`: a folder whose contents are not shown. */
export interface HostEntry {
  name: string;
  kind: 'folder' | 'empty' | 'file' | 'link';
  /** Permission bits. */
  mode: number;
  /** Where a link leads. */
  link?: string;
}

export interface CreateRequest {
  key: ContainerKey;
  /** Absolute path of the folder with config.json. */
  bundle: string;
  /** Mounted onto <bundle>/rootfs in the host's mount namespace before anything else; unmounted at delete. */
  rootfsMounts: MountSpec[];
  /** The root is a copy-on-write view of `lower`, held by a tmpfs that vanishes with the container. */
  rootfsOverlay?: RootfsOverlay;
  stdio: StdioPaths;
  settings?: ProcessSettings;
  /** With `settings.schedCore`: an init whose cores this container shares. */
  schedCoreWith?: number;
  noPivotRoot?: boolean;
  noNewKeyring?: boolean;
  systemdCgroup?: boolean;
  /** No cgroup is made: it stays in those of whoever clones it. */
  noCgroup?: boolean;
  /** Absolute state directory; default: under the run folder by scope, namespace and id. */
  stateDir?: string;
  /** Its processes come from an image; `atStart`: only `start` restores them. */
  restore?: RestoreOptions & { atStart?: boolean };
  /** The program runs as soon as it is set up: no exec FIFO, `start` must not be called. */
  startAtOnce?: boolean;
  /** A program that the kernel refuses is status 126 or 127, as under docker, not runc's 255. */
  dockerStatus?: boolean;
  /**
   * The caller stays: its client waits for the init with these WaitFlags, and with `cleanUp` takes the container's things away at once.
   * `endsAlone`: nothing is to be told after that, so the client may end without being asked to.
   */
  foreground?: { waitFlags: number; cleanUp: boolean; endsAlone: boolean };
  /** Gets the init's pid, as CallerContext.pidFile. */
  pidFile?: string;
  /** Written by the tape; failures are ignored. */
  files?: readonly BundleFile[];
  /** config.json, already checked by parseConfig; default: read from the bundle. */
  config?: Spec;
  /** The path of the user namespace in linux.namespaces is another namespace's: the user namespace that owns it is joined. */
  joinOwner?: boolean;
  /** Present: the container's stdio is the caller's and the caller plays the tape. */
  caller?: CallerContext;
}

/** A further process in a container. It is only recorded until `startExec`. */
export interface ExecRequest {
  key: ContainerKey;
  /** Unique in its container while it is known; not the container's id. */
  execId: string;
  /** Complete and checked (checkProcess); defaults of the container's own process are filled in by `execDefaults`. */
  process: Process;
  stdio: StdioPaths;
  /** Start it although the container is paused: it stays frozen until `resume`. */
  ignorePaused?: boolean;
  /** Cgroup below the container's, by v1 controller; '' is every hierarchy. Relative. */
  cgroups?: Record<string, string>;
  /** Forgotten by itself after its exit was told: nobody calls `deleteExec`. */
  autoDelete?: boolean;
  /** Present: stdio is the caller's and the caller plays the tape. */
  caller?: CallerContext;
}

/** A snapshot of one exec. `paused` and `pausing` are the container's to say. */
export interface ExecState {
  key: ContainerKey;
  execId: string;
  status: 'created' | 'running' | 'stopped';
  /** 0 before it was started and where the start failed. */
  pid: number;
  terminal: boolean;
  stdio: StdioPaths;
  exit: ExitInfo | undefined;
}

/** What an exec has that names nothing itself: the container's process, as it was created. */
export type ExecDefaults = Process;

/** What `state` shows; a snapshot, never live. */
export interface ContainerState {
  key: ContainerKey;
  status: ContainerStatus;
  /** 0 before create has finished. Stays known after the exit (shim contract 13). */
  pid: number;
  bundle: string;
  rootfs: string;
  stdio: StdioPaths;
  createdAt: Date;
  exit: ExitInfo | undefined;
  /** Processes of it that the kernel has killed for want of memory. */
  oomKills: number;
  /** In which cgroup the last of them was: `/` is the container's own, `/a` one that it made; undefined: there was none. */
  oomCgroup: string | undefined;
  annotations: Record<string, string>;
  /** Its program with the arguments, as a shell would take them, cut where it is long; '': made by an earlier build. */
  command?: string;
  ociVersion: string;
  /** Cgroup path of each v1 controller, or {'': path} on v2. Empty: no cgroup. */
  cgroups: Record<string, string>;
}

/**
 * Emitted in order for one container: created, started, exited, deleted; for one exec: execAdded, execStarted, execExited.
 * The container's exited comes after the execExited of every exec that was started.
 */
export type RuntimeEvent =
  /** `checkpoint`: the image that it is to be restored from. */
  | { type: 'created'; state: ContainerState; rootfsMounts: MountSpec[]; checkpoint?: string }
  | { type: 'started'; state: ContainerState }
  | { type: 'exited'; state: ContainerState; exit: ExitInfo }
  | { type: 'deleted'; state: ContainerState; exit: ExitInfo }
  /** One or more processes were killed for want of memory (`state.oomKills`); never after `exited`. */
  | { type: 'oom'; state: ContainerState }
  | { type: 'paused'; state: ContainerState }
  | { type: 'resumed'; state: ContainerState }
  | { type: 'checkpointed'; state: ContainerState; path: string }
  | { type: 'execAdded'; state: ContainerState; exec: ExecState }
  | { type: 'execStarted'; state: ContainerState; exec: ExecState }
  | { type: 'execExited'; state: ContainerState; exec: ExecState; exit: ExitInfo };

export interface KeelName {
  token: bigint;
  /** Where an init waits for its start; '' for an exec. */
  fifo: string;
}

/** Deadline and abort of one operation, and the request's id for the log. */
export interface OperationContext {
  requestId: string;
  signal?: AbortSignal;
  /** Plays clean-up tapes in the caller (the CLI's client) where that is quicker; default: keel. */
  host?: PlayHost;
}

/** All errors are WherryError: not-found for unknown ids, already-exists, failed-precondition for wrong states. */
export interface ContainerRuntime {
  create(request: CreateRequest, context: OperationContext): Promise<ContainerState>;
  /** Lets a created container's program run. */
  start(key: ContainerKey, context: OperationContext, notify?: NotifyRequest): Promise<ContainerState>;
  /** From memory, never blocks. */
  state(key: ContainerKey): ContainerState;
  find(key: ContainerKey): ContainerState | undefined;
  list(filter?: Partial<ContainerKey>): ContainerState[];
  kill(key: ContainerKey, signal: number, all: boolean, context: OperationContext): Promise<void>;
  /** Removes a created (kills it), or stopped container; with force a running one too. */
  delete(key: ContainerKey, force: boolean, context: OperationContext): Promise<ExitInfo>;
  /** Resolves at the exit (at once afterwards, until delete); rejects when the signal aborts. */
  wait(key: ContainerKey, context: OperationContext): Promise<ExitInfo>;
  /** Every pid of the cgroup; of a stopped, not deleted container the remembered init pid. */
  pids(key: ContainerKey): Promise<number[]>;
  /** Its lines of the host's ps(1), run with these options, and the head line. */
  processTable(key: ContainerKey, request: HostPsRequest, context: OperationContext): Promise<string>;
  closeStdin(key: ContainerKey): Promise<void>;
  /** Size of the terminal of the init, or of an exec. failed-precondition without a running process; nothing happens without a terminal. */
  resize(key: ContainerKey, execId: string | undefined, rows: number, cols: number): Promise<void>;
  /** The init's parent is the caller, who says how it ended (wait status); quicker than keel's pidfd, and known on every kernel. */
  noteExit(key: ContainerKey, waitStatus: number): void;
  /** Freezes every process; resolves when all are frozen. failed-precondition unless running or created. */
  pause(key: ContainerKey, context: OperationContext): Promise<void>;
  resume(key: ContainerKey, context: OperationContext): Promise<void>;
  /** Writes an image by criu. Without leaveRunning and preDump the container has been killed then, and its exit is told as ever. */
  checkpoint(key: ContainerKey, options: CheckpointOptions, context: OperationContext): Promise<void>;
  /** Changes limits; what is not named stays. On failure the values before are written back. Returns warnings. */
  update(
    key: ContainerKey,
    resources: LinuxResources,
    context: OperationContext,
    resctrl?: ResctrlChange,
  ): Promise<string[]>;
  /** Mounts into a container that runs: all or none. failed-precondition when it does not run, already-exists for a place that has one. */
  addMounts(key: ContainerKey, mounts: readonly Mount[], context: OperationContext): Promise<void>;
  /** Takes away what addMounts made; not-found for any other place. */
  removeMounts(key: ContainerKey, destinations: readonly string[], context: OperationContext): Promise<void>;
  /** Records an exec (state created). already-exists for a known execId, failed-precondition once the init has ended. */
  exec(request: ExecRequest, context: OperationContext): Promise<ExecState>;
  /** Starts it; on failure it stays `created` with pid 0, its wait resolves (status 255) and it can be deleted. */
  startExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExecState>;
  /** From memory; not-found "process does not exist <execId>". */
  execState(key: ContainerKey, execId: string): ExecState;
  /** Resolves at the exit, or at once after it or after a failed start; rejects when the signal aborts. */
  waitExec(key: ContainerKey, execId: string, context: OperationContext): Promise<ExitInfo>;
  /** failed-precondition when not started, not-found "process already finished" after its exit. */
  killExec(key: ContainerKey, execId: string, signal: number): Promise<void>;
  /** Forgets it and closes its streams; failed-precondition while it runs. */
  deleteExec(key: ContainerKey, execId: string): Promise<ExitInfo>;
  closeExecStdin(key: ContainerKey, execId: string): Promise<void>;
  listExecs(key: ContainerKey): ExecState[];
  /** The exec's parent is the caller, who says how it ended (wait status). */
  noteExecExit(key: ContainerKey, execId: string, waitStatus: number): void;
  /** The container's own process: what an exec without a process of its own starts from. */
  execDefaults(key: ContainerKey): Promise<ExecDefaults>;
  /** Ends a container of runc's, of which `stateDir` is runc's folder, and takes it away. False: there is none. */
  removeForeign(stateDir: string, bundle: string): Promise<boolean>;
  /** One sample. not-found "cgroup does not exist" when the container has none. */
  stats(key: ContainerKey): Promise<CgroupStats>;
  /** What keel knows the init, or an exec, by. */
  keelName(key: ContainerKey, execId?: string): KeelName;
  /** Called synchronously, in order; returns the function that unsubscribes. */
  onEvent(listener: (event: RuntimeEvent) => void): () => void;
}

export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}
