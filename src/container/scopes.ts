/** The systemd driver: a container's cgroup is that of a transient unit, which is there before the init and goes after it. */
import { readFileSync } from 'node:fs';
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { realProbe } from '../cgroup/probe.ts';
import {
  isSliceName,
  type SystemdUnit,
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
import type { LinuxResources, Spec } from '../oci/types.ts';
import { playError, readPage } from '../tape/outcome.ts';
import { compilePlaceholder } from './compile/placeholder.ts';
import type { Keel } from './keel.ts';
import type { ContainerRecord } from './record.ts';

const DEADLINE_MS = 10_000;
const SIGKILL = 9;

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

export class Scopes {
  readonly #mode: CgroupMode;
  readonly #keel: Keel;
  readonly #nextToken: () => bigint;
  readonly #isUser: boolean;
  readonly #systemd: SystemdManager;

  /** @param isUser not the machine's root: units are the user's own manager's */
  constructor(mode: CgroupMode, keel: Keel, isUser: boolean, nextToken: () => bigint) {
    this.#mode = mode;
    this.#keel = keel;
    this.#nextToken = nextToken;
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
    const token = this.#nextToken();
    const tape = compilePlaceholder(token);
    const result = await this.#keel.play(token, tape.image, { deadline: DEADLINE_MS });
    const error = playError(tape, result);
    if (error !== undefined) throw error;
    const leave = async () => {
      await this.#keel.signal(token, SIGKILL);
      await this.#keel.release(token);
    };
    try {
      const pid = Number(readPage(result.page).slots[0] ?? 0n);
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
