/**
 * The listening sockets that containerd was told of. One socket is for one group (a container, or a pod's containers) of one
 * namespace of one containerd, so a connection says by its listener whose it is. Remembered in a file, for a wherryd that is started anew.
 */
import { join } from 'node:path';
import type { ContainerKey } from '../../src/container/types.ts';
import type { Deposit } from '../../src/daemon/keel-link.ts';
import { WherryError } from '../../src/errors.ts';
import type { Logger } from '../log.ts';
import type { ShimRuntime } from '../runtime.ts';
import type { GroupSettings } from '../task/options.ts';
import type { TaskCaller, TaskGroups } from '../task/service.ts';
import { GroupFile, type GroupRecord } from './group-file.ts';

/** What keel does for the shim. */
export interface KeelPort {
  /** Which life of keel this is: listeners of another life are gone. */
  readonly boot?: bigint;
  /**
   * Listens on a unix socket (mode 0600; folders made 0700; a stale socket replaced). Resolves with the listener's id, which must not
   * be that of an earlier listener of this keel; rejects with errno 98 in the details when somebody else serves there.
   */
  listen(path: string): Promise<bigint>;
  /** Closes and removes the socket; open connections stay. */
  unlisten(listenerId: bigint): Promise<void>;
  /** What keel may tell of a process while there is no wherryd. */
  deposit?(token: bigint, deposit: Deposit): void;
}

export interface GroupOptions {
  scope: string;
  namespace: string;
  group: string;
  /** Where containerd takes events. */
  ttrpcAddress: string;
  /** '' in gRPC mode, where the one gRPC socket serves all. */
  socketPath: string;
  drainMs?: number;
  schedCore?: boolean;
}

interface Group extends GroupRecord {
  name: string;
  closing: Promise<void> | undefined;
  /** Open connections that came in by the listener. */
  connections: number;
  /** It is looked at again in a moment. */
  lingers?: boolean;
  /** Until what has changed is written down. */
  saving?: NodeJS.Timeout | undefined;
}

/** A container that ends at once has left its group by then. */
const SAVE_DELAY_MS = 100;
/** Time for the answer to Shutdown to reach containerd before its socket goes. */
const LINGER_MS = 50;

export class Groups implements TaskGroups {
  private readonly runtime: ShimRuntime;
  private readonly keel: KeelPort;
  private readonly log: Logger;
  private readonly file: GroupFile;
  private readonly groups = new Map<string, Group>();
  private readonly opening = new Map<string, Promise<Group>>();
  private readonly byListener = new Map<bigint, Group>();
  /** Outlives the groups: the last events come after the last Shutdown. */
  private readonly eventAddresses = new Map<string, string>();
  private readonly unsubscribe: () => void;

  constructor(runtime: ShimRuntime, keel: KeelPort, log: Logger, runDir: string) {
    this.runtime = runtime;
    this.keel = keel;
    this.log = log;
    this.file = new GroupFile(join(runDir, 'sockets'), keel.boot ?? 0n);
    for (const record of this.file.load(log, nameOf)) this.takeUp(record);
    this.unsubscribe = runtime.onEvent((event) => {
      if (event.type === 'deleted')
        this.onDeleted(event.state.key.scope, event.state.key.namespace, event.state.key.id);
    });
  }

  close(): void {
    this.unsubscribe();
    for (const group of this.groups.values()) clearTimeout(group.saving);
  }

  /**
   * For `start`: the container's group, with its socket listening. errno 98 in the error's details: the socket is served by
   * another shim.
   */
  async open(options: GroupOptions, id: string): Promise<void> {
    const name = nameOf(options);
    let group = this.groups.get(name);
    if (group?.closing !== undefined) {
      await group.closing;
      group = this.groups.get(name);
    }
    if (group === undefined) {
      const opening = this.opening.get(name) ?? this.listen(name, options);
      this.opening.set(name, opening);
      try {
        group = await opening;
      } finally {
        this.opening.delete(name);
      }
    }
    group.ttrpcAddress = options.ttrpcAddress;
    group.drainMs = options.drainMs;
    group.schedCore = options.schedCore;
    this.eventAddresses.set(ownerOf(group), options.ttrpcAddress);
    group.members.set(id, 'pending');
    try {
      this.file.save(group.name, group);
    } catch (error) {
      group.members.delete(id);
      this.closeIfUnused(group);
      throw error;
    }
  }

  /** A connection came in: whose it is; undefined for a listener that nobody knows. `release` is for its end. */
  connected(listenerId: bigint): { scope: string; namespace: string; release(): void } | undefined {
    const group = this.byListener.get(listenerId);
    if (group === undefined) return undefined;
    group.connections++;
    const release = (): void => {
      group.connections--;
      this.forgetListener(group);
    };
    return { scope: group.scope, namespace: group.namespace, release };
  }

  eventAddress(scope: string, namespace: string): string | undefined {
    return this.eventAddresses.get(ownerOf({ scope, namespace }));
  }

  /**
   * Which container a caller of the gRPC socket means. `namespace` is undefined where the caller names none: containerd 1.7 never
   * does, so the containers that it was told to reach by gRPC are known by their ids. failed-precondition where that is ambiguous.
   */
  ownerOf(namespace: string | undefined, id: string, creates: boolean): { scope: string; namespace: string } {
    const told = [...this.groups.values()].filter(
      (group) =>
        group.socketPath === '' &&
        group.members.has(id) &&
        (namespace === undefined || group.namespace === namespace),
    );
    const awaited = creates ? told.filter((group) => group.members.get(id) === 'pending') : [];
    const living = told.filter((group) => group.members.get(id) !== 'deleted');
    const [owner, another] = [awaited, living, told].find((groups) => groups.length > 0) ?? [];
    if (owner !== undefined && another !== undefined) {
      throw new WherryError('failed-precondition', `id: ${id} is in several namespaces`, {
        path: 'id',
        hint: 'name the namespace in the metadata containerd-namespace',
      });
    }
    if (owner !== undefined) return { scope: owner.scope, namespace: owner.namespace };
    const own = { scope: '', namespace: namespace ?? 'default' };
    if (creates || this.runtime.find({ ...own, id }) !== undefined) return own;
    const [found] = this.runtime.list({ namespace: own.namespace, id });
    return { ...own, scope: found?.key.scope ?? '' };
  }

  /** The container was told to use gRPC, whose connections end without its end. */
  overGrpc(scope: string, namespace: string, id: string): boolean {
    return this.find(scope, namespace, id)?.socketPath === '';
  }

  /** For `delete`: containerd has done with the container. */
  async left(scope: string, namespace: string, id: string): Promise<void> {
    const group = this.find(scope, namespace, id);
    if (group === undefined) return;
    group.members.delete(id);
    if (!this.closeIfUnused(group)) this.save(group);
  }

  /** By which a container is reached; 0n: by none. */
  listenerOf({ scope, namespace, id }: ContainerKey): bigint {
    return this.find(scope, namespace, id)?.listenerId ?? 0n;
  }

  joined(caller: TaskCaller, id: string): string {
    const group = this.groupOf(caller, id);
    if (group === undefined) return '';
    group.members.set(id, 'joined');
    // Who is still pending on disk, and has a state directory, has joined.
    group.saving ??= setTimeout(() => this.save(group), SAVE_DELAY_MS).unref();
    return group.socketPath === '' ? '' : `unix://${group.socketPath}`;
  }

  settings(caller: TaskCaller, id: string): GroupSettings {
    const group = this.groupOf(caller, id);
    if (group === undefined) return { schedCore: false };
    const { scope, namespace, drainMs, schedCore = false } = group;
    const others = schedCore ? [...group.members.keys()].filter((member) => member !== id) : [];
    const living = others
      .map((member) => this.runtime.find({ scope, namespace, id: member }))
      .find((state) => state !== undefined && state.pid !== 0 && state.exit === undefined);
    return {
      schedCore,
      ...(drainMs !== undefined && { drainMs }),
      ...(living !== undefined && { schedCoreWith: living.pid }),
    };
  }

  failed(caller: TaskCaller, id: string): void {
    const group = this.groupOf(caller, id);
    if (group !== undefined) this.closeIfUnused(group);
  }

  shutdown(listenerId: bigint): void {
    const group = this.byListener.get(listenerId);
    if (group === undefined) return;
    group.shutdown = true;
    this.save(group);
    this.closeIfUnused(group);
  }

  private async listen(name: string, options: GroupOptions): Promise<Group> {
    const listenerId = options.socketPath === '' ? 0n : await this.keel.listen(options.socketPath);
    const group: Group = {
      ...options,
      name,
      listenerId,
      members: new Map(),
      shutdown: false,
      closing: undefined,
      connections: 0,
    };
    this.remember(group);
    return group;
  }

  private takeUp(record: GroupRecord): void {
    const { scope, namespace, members } = record;
    for (const [id, member] of members)
      if (member === 'pending' && this.runtime.find({ scope, namespace, id }) !== undefined)
        members.set(id, 'joined');
    this.remember({ ...record, name: nameOf(record), closing: undefined, connections: 0 });
  }

  private remember(group: Group): void {
    this.groups.set(group.name, group);
    if (group.listenerId !== 0n) this.byListener.set(group.listenerId, group);
    this.eventAddresses.set(ownerOf(group), group.ttrpcAddress);
  }

  private groupOf({ listenerId, scope, namespace }: TaskCaller, id: string): Group | undefined {
    return listenerId === 0n ? this.find(scope, namespace, id) : this.byListener.get(listenerId);
  }

  private find(scope: string, namespace: string, id: string): Group | undefined {
    for (const group of this.groups.values())
      if (group.members.has(id) && group.scope === scope && group.namespace === namespace) return group;
    return undefined;
  }

  private onDeleted(scope: string, namespace: string, id: string): void {
    const group = this.find(scope, namespace, id);
    if (group === undefined) return;
    // The runtime tells it before it forgets the container; containerd may ask again until it executes `delete`.
    group.members.set(id, 'deleted');
    this.closeIfUnused(group);
  }

  /** A socket goes when containerd said so, or forgot every container, and none lives or is about to be made. */
  private isUnused(group: Group): boolean {
    if (!group.shutdown && group.members.size > 0) return false;
    const { scope, namespace } = group;
    return [...group.members].every(
      ([id, member]) =>
        member === 'deleted' ||
        (member === 'joined' && this.runtime.find({ scope, namespace, id }) === undefined),
    );
  }

  private closeIfUnused(group: Group): boolean {
    if (group.closing !== undefined) return true;
    if (!this.isUnused(group)) return false;
    if (group.lingers === true) return false;
    group.lingers = true;
    setTimeout(() => {
      group.lingers = false;
      if (group.closing === undefined && this.isUnused(group)) group.closing = this.unlisten(group);
    }, LINGER_MS);
    return false;
  }

  private async unlisten(group: Group): Promise<void> {
    try {
      if (group.listenerId !== 0n) await this.keel.unlisten(group.listenerId);
    } catch (thrown) {
      this.log.warn('cannot close a shim socket', {
        namespace: group.namespace,
        socket: group.socketPath,
        error: WherryError.from(thrown).message,
      });
    }
    if (this.groups.get(group.name) === group) this.groups.delete(group.name);
    this.forgetListener(group);
    this.file.remove(group.name);
  }

  /** Connections that are still open when their socket has gone may go on. */
  private forgetListener(group: Group): void {
    if (this.groups.get(group.name) !== group && group.connections === 0)
      this.byListener.delete(group.listenerId);
  }

  private save(group: Group): void {
    clearTimeout(group.saving);
    group.saving = undefined;
    if (this.groups.get(group.name) !== group) return;
    try {
      this.file.save(group.name, group);
    } catch (error) {
      this.log.error('cannot remember a shim socket', { socket: group.socketPath, error: String(error) });
    }
  }
}

function ownerOf(group: { scope: string; namespace: string }): string {
  return `${group.scope}\0${group.namespace}`;
}

function nameOf({ scope, namespace, group }: Pick<GroupOptions, 'scope' | 'namespace' | 'group'>): string {
  return `${scope}\0${namespace}\0${group}`;
}
