/** The systemd driver: a container's cgroup is that of a transient unit, which is there before the init and goes after it. */
import { readFileSync } from 'node:fs';
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { realProbe } from '../cgroup/probe.ts';
import {
  isSliceName,
  keelProperties,
  type SystemdUnit,
  slicePath,
  system,
  systemdUnit,
  type UnitManager,
  unitProperties,
} from '../cgroup/systemd.ts';
import { deviceProperties } from '../cgroup/systemd-devices.ts';
import { SystemdManager } from '../cgroup/systemd-manager.ts';
import { resourceProperties } from '../cgroup/systemd-resources.ts';
import { completed } from '../cgroup/update.ts';
import { userBusAddress } from '../cgroup/user-bus.ts';
import { WherryError } from '../errors.ts';
import { SIGKILL } from '../linux/constants.ts';
import type { LinuxResources, Spec } from '../oci/types.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import { compilePlaceholder } from './compile/placeholder.ts';
import type { Keel } from './keel.ts';
import type { ContainerRecord } from './record.ts';

const DEADLINE_MS = 10_000;

/** What stops every process of the container while systemd writes v1's device files, which for a moment allow nothing. */
export interface Standstill {
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

export interface OpenUnit {
  /** false: a slice that was there before, which is not ours to stop. */
  isOurs: boolean;
  leave(): Promise<void>;
}

export interface ScopesDependencies {
  mode: CgroupMode;
  keel: Keel;
  nextToken(): bigint;
  /** Not the machine's root: units are those of the user's own manager. */
  isUser: boolean;
  /** keel and wherryd, where they came up in the cgroup of their first caller; empty: they are where they belong. */
  guests(): readonly number[];
  onProblem(problem: string): void;
}

export class Scopes {
  readonly #mode: CgroupMode;
  readonly #keel: Keel;
  readonly #dependencies: ScopesDependencies;
  readonly #isUser: boolean;
  readonly #systemd: SystemdManager;
  #settled: Promise<void> | undefined;

  constructor(dependencies: ScopesDependencies) {
    const { mode, keel, isUser } = dependencies;
    this.#mode = mode;
    this.#keel = keel;
    this.#dependencies = dependencies;
    this.#isUser = isUser;
    this.#systemd = new SystemdManager(isUser ? userBusAddress(process.env, userOutside()) : undefined);
  }

  /** Which unit a container is. Throws failed-precondition where systemd can have no cgroup for it. */
  async unitOf(spec: Spec, id: string): Promise<SystemdUnit> {
    const path = 'linux.cgroupsPath';
    if (this.#mode === 'none') {
      throw new WherryError('failed-precondition', '--systemd-cgroup: no cgroup filesystem is mounted', {
        path,
        hint: 'the systemd cgroup driver needs systemd as init; leave the option out',
      });
    }
    if (this.#isUser && this.#mode !== 'v2') {
      throw new WherryError(
        'failed-precondition',
        '--systemd-cgroup: on cgroup v1 systemd gives nothing to users',
        { path, hint: 'boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)' },
      );
    }
    return systemdUnit(spec.linux?.cgroupsPath ?? '', id, await this.#manager());
  }

  async #manager(): Promise<UnitManager> {
    if (!this.#isUser) return system;
    return { controlGroup: await this.#systemd.controlGroup(), defaultSlice: 'user.slice' };
  }

  /** Starts the unit. Afterwards its cgroup is there and stays until `leave` is called, or longer if others are in it. */
  async open(
    unit: SystemdUnit,
    id: string,
    spec: Spec,
    paths: Readonly<Record<string, string>>,
  ): Promise<OpenUnit> {
    this.#settled ??= this.#settle();
    await this.#settled;
    const { annotations = {} } = spec;
    const request = { id, resources: spec.linux?.resources ?? {}, annotations, mode: this.#mode };
    if (isSliceName(unit.name)) {
      // systemd starts a slice anew that is there already and holds others.
      const isOurs = !realProbe.exists(paths[''] ?? paths['name=systemd'] ?? '');
      await this.#systemd.start(unit.name, unitProperties(unit, { ...request, pid: 0 }), () => true);
      return { isOurs, leave: async () => {} };
    }
    // What is wrong with the values is said before anything is made.
    unitProperties(unit, { ...request, pid: 0 });
    const token = this.#dependencies.nextToken();
    const tape = compilePlaceholder(token);
    const result = await this.#keel.play(token, tape.image, { deadline: DEADLINE_MS });
    const error = playError(tape, result);
    if (error !== undefined) throw error;
    const leave = async () => {
      await this.#keel.signal(token, SIGKILL);
      await this.#keel.release(token);
    };
    try {
      const pid = Number(readSlot(result.page, 0));
      await this.#systemd.start(unit.name, unitProperties(unit, { ...request, pid }), () =>
        isIn(pid, unit.path),
      );
    } catch (thrown) {
      await leave();
      throw thrown;
    }
    return { isOurs: true, leave };
  }

  /**
   * A unit of their own for keel and wherryd. The caller that started them may be in a unit that ends with it (conmon's scope in a pod's slice,
   * a login's), and they are not only that caller's. Best effort: there is nothing in it that this container needs.
   */
  async #settle(): Promise<void> {
    const pids = this.#dependencies.guests();
    const [keel] = pids;
    if (keel === undefined) return;
    const name = `wherry-keel-${keel}.scope`;
    try {
      const { controlGroup, defaultSlice } = await this.#manager();
      const path = `${controlGroup}${slicePath(defaultSlice)}/${name}`;
      if (isIn(keel, path)) return;
      await this.#systemd.start(name, keelProperties(pids, defaultSlice), () => isIn(keel, path));
    } catch (error) {
      this.#dependencies.onProblem(String(error));
    }
  }

  /**
   * systemd is told of what is written, or its next reload would bring the old values back. It writes its own, rounded, so that the files
   * are ours to write once more. `devices` only where they change.
   */
  async update(
    { unit, cgroup }: Pick<ContainerRecord, 'unit' | 'cgroup'>,
    given: LinuxResources,
    standstill: Standstill,
  ): Promise<void> {
    const v2 = this.#mode === 'v2';
    const resources = completed(given, v2, (controller, file) =>
      realProbe.read(`${cgroup?.paths[v2 ? '' : controller] ?? ''}/${file}`),
    );
    const { devices } = resources;
    const properties = [
      ...(devices === undefined ? [] : deviceProperties(devices, this.#mode)),
      ...resourceProperties(resources, this.#mode),
    ];
    if (unit === undefined || properties.length === 0) return;
    const stands = devices !== undefined && !v2;
    if (stands) await standstill.freeze();
    try {
      await this.#systemd.setProperties(unit, properties);
    } finally {
      if (stands) await standstill.thaw();
    }
  }

  async remove(unit: string): Promise<void> {
    await this.#systemd.stop(unit);
  }

  close(): void {
    this.#systemd.close();
  }
}

/** Our user as the machine knows it: in a user namespace of its own (podman's) it is another number, mostly 0. */
function userOutside(): number {
  const inside = process.geteuid?.() ?? 0;
  for (const line of readFileSync('/proc/self/uid_map', 'utf8').trim().split('\n')) {
    const [first = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number);
    if (inside >= first && inside < first + count) return outside + inside - first;
  }
  return inside;
}

/** The placeholder may have been moved by a call whose answer was lost. */
function isIn(pid: number, path: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, 'utf8')
      .split('\n')
      .some((line) => line.endsWith(`:${path}`));
  } catch {
    return false;
  }
}
