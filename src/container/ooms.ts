/** Out-of-memory kills as events of the containers: told while the container lives, and always before its exit. */
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { OomWatcher, oomCgroup, oomKills } from '../cgroup/oom.ts';
import type { ContainerRecord } from './record.ts';
import type { RuntimeEvent } from './types.ts';

export class Ooms {
  readonly #mode: CgroupMode;
  readonly #watcher: OomWatcher;
  readonly #emit: (event: RuntimeEvent) => void;
  /** What ends each watch. */
  readonly #watches = new Map<ContainerRecord, () => void>();

  constructor(mode: CgroupMode, emit: (event: RuntimeEvent) => void, onProblem: (problem: string) => void) {
    this.#mode = mode;
    this.#watcher = new OomWatcher(mode, onProblem);
    this.#emit = emit;
  }

  /** From when its cgroup exists. Kills that `record.oomKills` counts already are not told. */
  watch(record: ContainerRecord): void {
    if (record.cgroup === undefined || record.exit !== undefined || this.#watches.has(record)) return;
    this.#watches.set(
      record,
      this.#watcher.watch(record.cgroup.paths, () => this.look(record)),
    );
  }

  /** Counts, and tells what is new unless the container's create or start has not been told yet. */
  look(record: ContainerRecord): void {
    if (record.exitTold || record.cgroup === undefined) return;
    const kills = oomKills(record.cgroup.paths, this.#mode);
    if (kills > record.oomKills) {
      record.oomKills = kills;
      record.oomCgroup = oomCgroup(record.cgroup.paths, this.#mode, record.oomCounts);
      record.oomUntold = true;
    }
    if (!record.oomUntold || record.exitHeld) return;
    record.oomUntold = false;
    this.#emit({ type: 'oom', state: record.snapshot() });
  }

  forget(record: ContainerRecord): void {
    this.#watches.get(record)?.();
    this.#watches.delete(record);
  }

  close(): void {
    for (const record of [...this.#watches.keys()]) this.forget(record);
    this.#watcher.close();
  }
}
