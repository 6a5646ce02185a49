/** The systemd driver: a container's cgroup is that of a transient unit, which is there before the init and goes after it. */
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { resourceProperties, type SystemdUnit, systemdUnit, unitProperties } from '../cgroup/systemd.ts';
import { SystemdManager } from '../cgroup/systemd-manager.ts';
import { WherryError } from '../errors.ts';
import type { LinuxResources, Spec } from '../oci/types.ts';
import { playError, readPage } from '../tape/outcome.ts';
import { compilePlaceholder } from './compile/placeholder.ts';
import type { Keel } from './keel.ts';

const DEADLINE_MS = 10_000;
const SIGKILL = 9;

export class Scopes {
  readonly #mode: CgroupMode;
  readonly #keel: Keel;
  readonly #nextToken: () => bigint;
  readonly #systemd = new SystemdManager('system');

  constructor(mode: CgroupMode, keel: Keel, nextToken: () => bigint) {
    this.#mode = mode;
    this.#keel = keel;
    this.#nextToken = nextToken;
  }

  /** Which unit a container is. Throws unimplemented without cgroup v2 and for users. */
  unitOf(spec: Spec, id: string): SystemdUnit {
    if (this.#mode !== 'v2') {
      throw new WherryError(
        'unimplemented',
        '--systemd-cgroup: the systemd cgroup driver is supported on cgroup v2 only',
        { path: 'linux.cgroupsPath', hint: 'use the cgroupfs driver and a path such as /parent/name' },
      );
    }
    if (process.getuid?.() !== 0) {
      throw new WherryError(
        'unimplemented',
        '--systemd-cgroup: the systemd cgroup driver is supported for root only',
        {
          path: 'linux.cgroupsPath',
          hint: 'use the cgroupfs driver below a cgroup that is delegated to you',
        },
      );
    }
    return systemdUnit(spec.linux?.cgroupsPath ?? '', id);
  }

  /** Starts the unit. Afterwards its cgroup is there and stays until the returned function is called, or longer if others are in it. */
  async open(unit: SystemdUnit, id: string, spec: Spec): Promise<() => Promise<void>> {
    const token = this.#nextToken();
    const tape = compilePlaceholder(token);
    const result = await this.#keel.play(token, tape.image, { deadline: DEADLINE_MS });
    const error = playError(tape, result);
    if (error !== undefined) throw error;
    const end = async () => {
      await this.#keel.signal(token, SIGKILL);
      await this.#keel.release(token);
    };
    try {
      const pid = Number(readPage(result.page).slots[0] ?? 0n);
      await this.#systemd.start(
        unit.name,
        unitProperties(unit, id, pid, spec.linux?.resources ?? {}, spec.annotations ?? {}),
      );
    } catch (thrown) {
      await end();
      throw thrown;
    }
    return end;
  }

  /** systemd is told too, or its next reload would bring the old values back. */
  async update(unit: string, resources: LinuxResources): Promise<void> {
    const properties = resourceProperties(resources);
    if (properties.length > 0) await this.#systemd.setProperties(unit, properties);
  }

  async remove(unit: string): Promise<void> {
    await this.#systemd.stop(unit);
  }

  close(): void {
    this.#systemd.close();
  }
}
