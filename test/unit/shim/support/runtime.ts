/** A runtime core in memory: states and events as the real one has them, no kernel. For tests of the RPC layer only. */

import type { ShimRuntime } from '../../../../shim/runtime.ts';
import type { CgroupStats } from '../../../../src/cgroup/stats.ts';
import type {
  ContainerKey,
  ContainerState,
  CreateRequest,
  ExitInfo,
  KeelName,
  OperationContext,
  RuntimeEvent,
} from '../../../../src/container/types.ts';
import { WherryError } from '../../../../src/errors.ts';

interface Entry {
  state: ContainerState;
  ended: PromiseWithResolvers<ExitInfo>;
}

export class MemoryRuntime implements ShimRuntime {
  readonly requests: CreateRequest[] = [];
  readonly listeners = new Set<(event: RuntimeEvent) => void>();
  readonly stdinClosed: string[] = [];
  /** Set to make the next create fail. */
  failure: WherryError | undefined;
  /** Awaited by delete. */
  deleteGate: Promise<void> = Promise.resolve();
  deletes = 0;
  cpu = 0n;
  private readonly entries = new Map<string, Entry>();
  private nextPid = 100;

  async create(request: CreateRequest, _context: OperationContext): Promise<ContainerState> {
    this.requests.push(request);
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
    if (this.entries.has(nameOf(request.key))) {
      throw new WherryError('already-exists', 'container with given ID already exists', { path: 'id' });
    }
    const earlier = this.requests.filter(({ key }) => nameOf(key) === nameOf(request.key)).length - 1;
    const state: ContainerState = {
      key: request.key,
      status: 'created',
      pid: this.nextPid++,
      bundle: request.bundle,
      rootfs: `${request.bundle}/rootfs`,
      stdio: request.stdio,
      createdAt: new Date(1_700_000_000_000 + earlier),
      exit: undefined,
      oomKills: 0,
      oomCgroup: undefined,
      annotations: {},
      ociVersion: '1.2.0',
      cgroups: {},
    };
    const ended = Promise.withResolvers<ExitInfo>();
    this.entries.set(nameOf(request.key), { state, ended });
    this.emit({ type: 'created', state: { ...state }, rootfsMounts: request.rootfsMounts });
    return { ...state };
  }

  async start(key: ContainerKey): Promise<ContainerState> {
    const { state } = this.entry(key);
    if (state.status !== 'created') {
      throw new WherryError('failed-precondition', 'cannot start an already running container');
    }
    state.status = 'running';
    this.emit({ type: 'started', state: { ...state } });
    return { ...state };
  }

  state(key: ContainerKey): ContainerState {
    return { ...this.entry(key).state };
  }

  keelName(key: ContainerKey): KeelName {
    return { token: BigInt(this.entry(key).state.pid), fifo: `/run/${key.id}/exec.fifo` };
  }

  find(key: ContainerKey): ContainerState | undefined {
    const state = this.entries.get(nameOf(key))?.state;
    return state && { ...state };
  }

  list(filter: Partial<ContainerKey> = {}): ContainerState[] {
    const wanted = Object.entries(filter).filter(([, value]) => value !== undefined);
    return [...this.entries.values()]
      .filter(({ state }) => wanted.every(([name, value]) => state.key[name as keyof ContainerKey] === value))
      .map(({ state }) => ({ ...state }));
  }

  async kill(key: ContainerKey, signal: number, all: boolean): Promise<void> {
    const { state } = this.entry(key);
    if (state.status === 'stopped' && all) return;
    if (state.status === 'stopped') throw new WherryError('not-found', 'container not running');
    if (signal === 9 || signal === 15) this.exit(key, 128 + signal);
  }

  /** The init ends by itself. */
  exit(key: ContainerKey, exitStatus: number): void {
    const { state, ended } = this.entry(key);
    state.exit = { pid: state.pid, exitStatus, exitedAt: new Date(1_700_000_001_500) };
    state.status = 'stopped';
    this.emit({ type: 'exited', state: { ...state }, exit: state.exit });
    ended.resolve(state.exit);
  }

  async delete(key: ContainerKey, force: boolean): Promise<ExitInfo> {
    this.deletes++;
    const { state } = this.entry(key);
    await this.deleteGate;
    if (state.status === 'running' && !force) {
      throw new WherryError(
        'failed-precondition',
        `cannot delete container ${key.id} that is not stopped: running`,
      );
    }
    if (state.exit === undefined) this.exit(key, 137);
    const { exit } = state;
    if (exit === undefined) throw new Error('unreachable');
    this.entries.delete(nameOf(key));
    this.emit({ type: 'deleted', state: { ...state }, exit });
    return exit;
  }

  async wait(key: ContainerKey, { signal }: OperationContext): Promise<ExitInfo> {
    const { ended } = this.entry(key);
    const aborted = Promise.withResolvers<never>();
    signal?.addEventListener('abort', () => aborted.reject(signal.reason), { once: true });
    return Promise.race([ended.promise, aborted.promise]);
  }

  async pids(key: ContainerKey): Promise<number[]> {
    return [this.entry(key).state.pid];
  }

  async closeStdin(key: ContainerKey): Promise<void> {
    this.stdinClosed.push(this.entry(key).state.key.id);
  }

  async resize(key: ContainerKey): Promise<void> {
    this.entry(key);
  }

  async stats(key: ContainerKey): Promise<CgroupStats> {
    this.entry(key);
    this.cpu += 1000n;
    return v1Sample(this.cpu);
  }

  async pause(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async resume(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async addMounts(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async removeMounts(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async checkpoint(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async update(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async exec(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async startExec(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async waitExec(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async killExec(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async deleteExec(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async closeExecStdin(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  async execDefaults(): Promise<never> {
    throw new Error('not in this stand-in');
  }

  execState(): never {
    throw new Error('not in this stand-in');
  }

  async removeForeign(): Promise<boolean> {
    return false;
  }

  listExecs(): [] {
    return [];
  }

  noteExecExit(): void {
    throw new Error('nobody calls this from RPC');
  }

  onEvent(listener: (event: RuntimeEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  emit(event: RuntimeEvent): void {
    for (const listener of this.listeners) listener(event);
  }

  private entry(key: ContainerKey): Entry {
    const entry = this.entries.get(nameOf(key));
    if (entry === undefined) throw new WherryError('not-found', 'container does not exist', { path: 'id' });
    return entry;
  }
}

export function v1Sample(cpuTotal: bigint): CgroupStats {
  return {
    version: 1,
    takenAt: new Date(1_700_000_000_000),
    pids: { current: 3n, limit: 100n },
    cpu: {
      total: cpuTotal,
      kernel: 1n,
      user: 2n,
      perCpu: [1n, 2n],
      periods: 0n,
      throttledPeriods: 0n,
      throttledTime: 0n,
    },
    memory: {
      stat: { cache: 11n, total_pgfault: 12n, hierarchical_memsw_limit: 13n, unheard_of: 14n },
      usage: { limit: 2n ** 63n, usage: 4096n, max: 8192n, failcnt: 0n },
    },
  };
}

function nameOf(key: ContainerKey): string {
  return `${key.scope}\0${key.namespace}\0${key.id}`;
}
