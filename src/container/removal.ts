/** Taking away what a create made on the host: mounts below the bundle, cgroups, resctrl groups. */
import { join } from 'node:path';
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { removalOrder } from '../cgroup/tree.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError } from '../tape/outcome.ts';
import { compileRemove } from './compile/remove.ts';
import { mountsBelow } from './nested-mounts.ts';
import type { PlayHost } from './play.ts';
import type { ContainerRecord } from './record.ts';
import { sleep } from './waiting.ts';

const DEADLINE_MS = 60_000;
/** rmdir answers EBUSY while the last dying task leaves; runc gives up after about as long. */
const TRIES = 40;
/** On v2 each try waits for the last task. */
const WAITS = 10;
const LONGEST_PAUSE_MS = 250;

export class Removal {
  readonly #mode: CgroupMode;
  readonly #nextToken: () => bigint;

  constructor(mode: CgroupMode, nextToken: () => bigint) {
    this.#mode = mode;
    this.#nextToken = nextToken;
  }

  /** The first try; also for a client that plays it by itself. */
  tape(record: ContainerRecord, attempt = 1): AssembledTape {
    const directories = record.cgroup?.remove ?? [];
    const rootfs = record.rootfsMounts.length === 0 ? undefined : join(record.bundle, 'rootfs');
    return compileRemove({
      rootfs,
      rootfsTargets: record.rootfsMounts.map(({ target }) => target),
      resctrl: record.resctrl?.remove,
      // Looking for mounts of others, and for cgroups of the container's own, costs more than the removal: only where it was refused.
      ...(rootfs !== undefined && attempt > 1 && { nestedMounts: mountsBelow(rootfs) }),
      cgroupDirectories: attempt === 1 ? directories : removalOrder(directories),
      waitForTheLast: attempt > 1,
    });
  }

  /** Tries again for a while; throws what the last try failed with. */
  async play(record: ContainerRecord, host: PlayHost): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const error = await this.#try(this.tape(record, attempt), host);
      if (error === undefined) return;
      if (attempt >= (this.#mode === 'v2' ? WAITS : TRIES)) throw error;
      await sleep(Math.min(2 ** attempt, LONGEST_PAUSE_MS));
    }
  }

  /** The cgroups alone, once. */
  async playCgroups(record: ContainerRecord, host: PlayHost): Promise<void> {
    const directories = removalOrder(record.cgroup?.remove ?? []);
    const tape = compileRemove({ rootfs: undefined, cgroupDirectories: directories });
    await host.play(this.#nextToken(), tape.image, { deadline: DEADLINE_MS });
  }

  async #try(tape: AssembledTape, host: PlayHost) {
    const result = await host.play(this.#nextToken(), tape.image, {
      deadline: DEADLINE_MS,
      inProcess: true,
    });
    return playError(tape, result);
  }
}
