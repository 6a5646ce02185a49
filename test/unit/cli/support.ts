/** A recorded session and a runtime in memory: what the commands see, without a kernel. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CliDependencies } from '../../../src/cli/dependencies.ts';
import { runCli } from '../../../src/cli/main.ts';
import type { ClientRequest, ClientSession } from '../../../src/cli/session.ts';
import type { CheckpointOptions } from '../../../src/container/criu/options.ts';
import type {
  ContainerKey,
  ContainerRuntime,
  ContainerState,
  ContainerStatus,
  CreateRequest,
  ExitInfo,
  KeelName,
  OperationContext,
} from '../../../src/container/types.ts';
import { WherryError } from '../../../src/errors.ts';
import type { Spec } from '../../../src/oci/types.ts';

export class MemoryRuntime implements ContainerRuntime {
  readonly containers = new Map<string, ContainerState>();
  readonly created: CreateRequest[] = [];
  readonly checkpoints: { id: string; options: CheckpointOptions }[] = [];
  readonly signals: { id: string; signal: number; all: boolean }[] = [];
  readonly deleted: { id: string; force: boolean }[] = [];
  readonly contexts: OperationContext[] = [];
  failCreate: WherryError | undefined;
  failDelete: WherryError | undefined;
  onCreate: () => void = () => {};

  add(key: ContainerKey, status: ContainerStatus, extra: Partial<ContainerState> = {}): ContainerState {
    const state: ContainerState = {
      key,
      status,
      pid: 4711,
      bundle: '/srv/bundle',
      rootfs: '/srv/bundle/rootfs',
      stdio: { stdin: '', stdout: '', stderr: '', terminal: false },
      createdAt: new Date('2026-01-02T03:04:05.120Z'),
      exit: undefined,
      oomKills: 0,
      oomCgroup: undefined,
      annotations: {},
      ociVersion: '1.0.2',
      cgroups: {},
      ...extra,
    };
    this.containers.set(nameOf(key), state);
    return state;
  }

  async removeForeign(): Promise<boolean> {
    return false;
  }

  async create(request: CreateRequest, context: OperationContext): Promise<ContainerState> {
    this.contexts.push(context);
    if (this.failCreate !== undefined) throw this.failCreate;
    if (this.find(request.key) !== undefined) {
      throw new WherryError('already-exists', 'container with given ID already exists', { path: 'id' });
    }
    this.created.push(request);
    this.onCreate();
    return this.add(request.key, request.startAtOnce === true ? 'running' : 'created', {
      bundle: request.bundle,
    });
  }

  async addMounts(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async removeMounts(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async checkpoint(key: ContainerKey, options: CheckpointOptions): Promise<void> {
    this.state(key);
    this.checkpoints.push({ id: key.id, options });
  }

  async start(key: ContainerKey): Promise<ContainerState> {
    const state = this.state(key);
    if (state.status === 'stopped') {
      throw new WherryError('failed-precondition', 'cannot start a container that has stopped');
    }
    if (state.status !== 'created') {
      throw new WherryError('failed-precondition', 'cannot start an already running container');
    }
    state.status = 'running';
    return state;
  }

  state(key: ContainerKey): ContainerState {
    const state = this.find(key);
    if (state === undefined) throw new WherryError('not-found', 'container does not exist', { path: 'id' });
    return state;
  }

  find(key: ContainerKey): ContainerState | undefined {
    return this.containers.get(nameOf(key));
  }

  list(filter: Partial<ContainerKey> = {}): ContainerState[] {
    return [...this.containers.values()].filter(
      ({ key }) =>
        (filter.scope ?? key.scope) === key.scope && (filter.namespace ?? key.namespace) === key.namespace,
    );
  }

  async kill(key: ContainerKey, signal: number, all: boolean): Promise<void> {
    if (this.state(key).status === 'stopped') {
      if (all) return;
      throw new WherryError('not-found', 'container not running');
    }
    this.signals.push({ id: key.id, signal, all });
  }

  async delete(key: ContainerKey, force: boolean, context: OperationContext): Promise<ExitInfo> {
    this.contexts.push(context);
    if (this.failDelete !== undefined) throw this.failDelete;
    const state = this.state(key);
    if (state.status === 'running' && !force) {
      throw new WherryError(
        'failed-precondition',
        `cannot delete container ${key.id} that is not stopped: running`,
      );
    }
    this.deleted.push({ id: key.id, force });
    this.containers.delete(nameOf(key));
    return state.exit ?? { pid: state.pid, exitStatus: 137, exitedAt: new Date() };
  }

  noteExit(key: ContainerKey, waitStatus: number): void {
    const state = this.state(key);
    state.status = 'stopped';
    state.exit = { pid: state.pid, exitStatus: waitStatus >> 8, exitedAt: new Date() };
  }

  wait(): Promise<ExitInfo> {
    return Promise.reject(unused());
  }
  pids(): Promise<number[]> {
    return Promise.reject(unused());
  }
  closeStdin(): Promise<void> {
    return Promise.reject(unused());
  }

  async resize(): Promise<void> {}
  stats(): Promise<never> {
    return Promise.reject(unused());
  }
  pause(): Promise<never> {
    return Promise.reject(unused());
  }
  resume(): Promise<never> {
    return Promise.reject(unused());
  }
  update(): Promise<never> {
    return Promise.reject(unused());
  }
  exec(): Promise<never> {
    return Promise.reject(unused());
  }
  startExec(): Promise<never> {
    return Promise.reject(unused());
  }
  waitExec(): Promise<never> {
    return Promise.reject(unused());
  }
  killExec(): Promise<never> {
    return Promise.reject(unused());
  }
  deleteExec(): Promise<never> {
    return Promise.reject(unused());
  }
  closeExecStdin(): Promise<never> {
    return Promise.reject(unused());
  }
  processTable(): Promise<never> {
    return Promise.reject(unused());
  }
  execDefaults(): Promise<never> {
    return Promise.reject(unused());
  }
  execState(): never {
    throw unused();
  }
  listExecs(): [] {
    return [];
  }
  noteExecExit(): void {}
  keelName(): KeelName {
    return { token: 1n, fifo: '' };
  }

  onEvent(): () => void {
    return () => {};
  }
}

function unused(): Error {
  return new Error('the command line does not call this');
}

function nameOf({ scope, namespace, id }: ContainerKey): string {
  return JSON.stringify([scope, namespace, id]);
}

export interface CallOptions {
  cwd?: string;
  env?: Record<string, string>;
  isTerminal?: [boolean, boolean, boolean];
  /** Wait status of the container's init. */
  waitStatus?: number;
  /** When the client goes away. */
  vanish?: 'in create' | 'in wait';
  request?: Partial<ClientRequest>;
  runtime?: MemoryRuntime;
  deps?: Partial<CliDependencies>;
}

export interface CallResult {
  code: number | undefined;
  out: string;
  err: string;
  waits: { pid: number; flags: number }[];
  /** config.json of the container that was created. */
  config: Spec | undefined;
  runtime: MemoryRuntime;
}

/** Calls the command line as the client does; argv without the program: wherry. */
export async function call(argv: readonly string[], options: CallOptions = {}): Promise<CallResult> {
  return callAs('wherry', argv, options);
}

export async function callAs(
  program: string,
  argv: readonly string[],
  options: CallOptions = {},
): Promise<CallResult> {
  const runtime = options.runtime ?? new MemoryRuntime();
  const result: CallResult = { code: undefined, out: '', err: '', waits: [], config: undefined, runtime };
  const abort = new AbortController();
  const gone = new WherryError('canceled', 'the client has gone');
  runtime.onCreate = () => {
    if (options.vanish === 'in create') abort.abort(gone);
  };
  const session: ClientSession = {
    kind: 'client',
    request: {
      pid: 1234,
      uid: 0,
      gid: 0,
      umask: 0o027,
      isTerminal: options.isTerminal ?? [false, false, false],
      rows: 24,
      cols: 80,
      namespaces: { mnt: 0n, user: 0n, pid: 0n, net: 0n, cgroup: 0n },
      build: 'client-build',
      cwd: options.cwd ?? '/',
      argv: [program, ...argv],
      env: options.env ?? {},
      rlimits: [],
      oomScoreAdj: 0,
      nice: 0,
      ...options.request,
    },
    signal: abort.signal,
    out(descriptor, data) {
      const text = typeof data === 'string' ? data : Buffer.from(data).toString();
      if (result.code !== undefined) throw new Error('output after the exit');
      if (descriptor === 1) result.out += text;
      else result.err += text;
    },
    play: () => Promise.reject(unused()),
    wait(pid, flags) {
      result.waits.push({ pid, flags });
      if (abort.signal.aborted) return Promise.reject(gone);
      if (options.vanish === undefined) return Promise.resolve(options.waitStatus ?? 0);
      abort.abort(gone);
      return Promise.reject(gone);
    },
    readStdin: () => Promise.reject(unused()),
    relay: () => {
      throw unused();
    },
    exit(code) {
      if (result.code !== undefined) throw new Error('exit was called twice');
      result.code = code;
    },
  };
  const deps: CliDependencies = {
    runtime,
    paths: { runDir: '/run/wherry' },
    versions: {
      wherry: '0.1.0',
      wherryd: 'wherryd-build',
      keel: 'keel-build',
      node: 'v24.0.0',
      libseccomp: () => '2.5.4',
    },
    acting: () => {},
    daemon: {
      status: async () => ({
        pid: 77,
        registered: 2,
        players: 0,
        connections: 1,
        startedAt: new Date('2026-01-02T03:04:05.000Z'),
      }),
      stop: async () => {},
      upgrade: async () => {},
    },
    cgroupVersion: 1,
    explain: async (bundle, id) => `set-up of ${bundle} as ${id}`,
    log: { debug: () => {}, warn: () => {}, error: () => {} },
    ...options.deps,
  };
  await runCli(session, deps);
  result.config = runtime.created.at(-1)?.config as Spec | undefined;
  return result;
}

/** The smallest config.json, with what a test needs beside it. */
export function configText(process: Record<string, unknown> = {}): string {
  return JSON.stringify({
    ociVersion: '1.0.2',
    root: { path: 'rootfs' },
    process: { args: ['true'], cwd: '/', ...process },
  });
}

/** A key of the command line's own. */
export const local = (id: string, scope = '') => ({ scope, namespace: 'default', id });

/** A folder of bundles; remove it with `remove`. */
export class Bundles {
  readonly folder = mkdtempSync(join(tmpdir(), 'wherry-cli-'));

  /** Returns its path. */
  make(name: string, process: Record<string, unknown> = {}): string {
    const path = join(this.folder, name);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'config.json'), configText(process));
    return path;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
