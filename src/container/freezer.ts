/** Stopping every process of a container at once: for pause, and for signals that all must get. Tapes do the writing. */
import type { CgroupMode } from '../cgroup/hierarchy.ts';
import { realProbe } from '../cgroup/probe.ts';
import { WherryError } from '../errors.ts';
import { SIGKILL } from '../linux/constants.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError, readSlot } from '../tape/outcome.ts';
import {
  compileCgroupKill,
  compileFreeze,
  compileSignals,
  compileThaw,
  FROZEN_SLOT,
  type FreezerPlace,
} from './compile/freeze.ts';
import type { PlayHost } from './play.ts';

/** A task that cannot be frozen (an uninterruptible wait) is waited for this long. */
const FREEZE_MS = 10_000;
const PLAY_DEADLINE_MS = 10_000;

export interface FreezerDependencies {
  /** Plays where no other host is given; it outlives callers. */
  keel: PlayHost;
  nextToken(): bigint;
}

export class Freezer {
  readonly #place: FreezerPlace | undefined;
  readonly #deps: FreezerDependencies;

  /** `paths` are those of the container's CgroupPlan. */
  constructor(paths: Readonly<Record<string, string>>, mode: CgroupMode, dependencies: FreezerDependencies) {
    this.#place = placeOf(paths, mode);
    this.#deps = dependencies;
  }

  /** Resolves when all are frozen; deadline-exceeded after 10 s, and then nothing stays frozen. */
  async freeze(host: PlayHost = this.#deps.keel): Promise<void> {
    const place = this.#required();
    const tape = compileFreeze(place);
    const until = performance.now() + FREEZE_MS;
    try {
      while (!(await this.#play(host, tape))) {
        if (performance.now() < until) continue;
        throw new WherryError('deadline-exceeded', 'unable to freeze', {
          hint: `a process of ${place.directory} did not stop within ${FREEZE_MS / 1000} s: it waits for a device or a network filesystem`,
        });
      }
    } catch (error) {
      await this.thaw().catch(() => {});
      throw error;
    }
  }

  /** As the kernel says it; false where it does not. */
  isFrozen(): boolean {
    if (this.#place === undefined) return false;
    const { version, directory } = this.#place;
    return version === 1
      ? realProbe.read(`${directory}/freezer.state`)?.trim() === 'FROZEN'
      : /^frozen 1$/m.test(realProbe.read(`${directory}/cgroup.events`) ?? '');
  }

  async thaw(host: PlayHost = this.#deps.keel): Promise<void> {
    await this.#play(host, compileThaw(this.#required()));
  }

  /**
   * A signal for every process, none of which can fork or end meanwhile.
   * @param pids asked once all stand still
   * @param frozen they stand still already, and stay so unless they are killed
   */
  async signalAll(signal: number, pids: () => readonly number[], frozen: boolean): Promise<void> {
    const place = this.#place;
    const { keel } = this.#deps;
    if (place?.version === 2 && signal === SIGKILL) {
      await this.#play(keel, compileCgroupKill(place.directory));
      return;
    }
    if (place !== undefined && !frozen) await this.freeze();
    try {
      await this.#play(keel, compileSignals(pids(), signal));
    } finally {
      if (place !== undefined && (!frozen || signal === SIGKILL)) await this.thaw();
    }
  }

  /** True: the tape said so in FROZEN_SLOT. */
  async #play(host: PlayHost, tape: AssembledTape): Promise<boolean> {
    const options = { deadline: PLAY_DEADLINE_MS, inProcess: true };
    const result = await host.play(this.#deps.nextToken(), tape.image, options);
    const error = playError(tape, result);
    if (error !== undefined) throw error;
    return readSlot(result.page, FROZEN_SLOT) === 1n;
  }

  #required(): FreezerPlace {
    if (this.#place !== undefined) return this.#place;
    throw new WherryError('failed-precondition', 'the container has no freezer cgroup', {
      hint: 'mount the freezer controller (cgroup v1) or cgroup2',
    });
  }
}

function placeOf(paths: Readonly<Record<string, string>>, mode: CgroupMode): FreezerPlace | undefined {
  if (mode !== 'v2' && paths['freezer'] !== undefined) return { version: 1, directory: paths['freezer'] };
  const unified = paths[''];
  return unified === undefined ? undefined : { version: 2, directory: unified };
}
