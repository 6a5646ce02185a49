/** One stream of samples for each container, however many watch it: the kernel's counters are read once for all of them. */
import { keyName } from '../container/key.ts';
import type { ContainerKey, ContainerRuntime, RuntimeEvent } from '../container/types.ts';
import type { CgroupStats } from './stats.ts';

/** What the hub asks of the runtime. With events, a stream ends at the exit, otherwise at the next sample after it. */
export type StatsSource = Pick<ContainerRuntime, 'stats' | 'find'> &
  Partial<Pick<ContainerRuntime, 'onEvent'>>;

export interface Clock {
  /** Milliseconds, never going back. */
  now(): number;
  /** Returns the function that cancels. */
  after(milliseconds: number, run: () => void): () => void;
}

const systemClock: Clock = {
  now: () => performance.now(),
  after(milliseconds, run) {
    const timer = setTimeout(run, milliseconds);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Watchers that are due within this share of their interval get the sample that is taken anyway. */
const EARLY = 0.1;
/** setTimeout's longest. */
const LONGEST_WAIT = 2 ** 31 - 1;

export class StatsHub {
  readonly #source: StatsSource;
  readonly #clock: Clock;
  readonly #samplers = new Map<string, Sampler>();
  #unsubscribe: (() => void) | undefined;

  constructor(source: StatsSource, clock: Clock = systemClock) {
    this.#source = source;
    this.#clock = clock;
  }

  /** How many containers are being watched. */
  get size(): number {
    return this.#samplers.size;
  }

  /**
   * The first sample is taken at once, the next every `intervalMs`. When the container has exited: a last sample, if its
   * cgroup can still be read, then `onEnd`, once. Callbacks are never called before this returns nor after the returned
   * function was called, which may be done any number of times.
   */
  subscribe(
    key: ContainerKey,
    intervalMs: number,
    onSample: (stats: CgroupStats) => void,
    onEnd: () => void,
  ): () => void {
    const name = keyName(key);
    let sampler = this.#samplers.get(name);
    if (sampler === undefined) {
      sampler = new Sampler({ ...key }, this.#source, this.#clock, () => this.#drop(name));
      this.#samplers.set(name, sampler);
      this.#unsubscribe ??= this.#source.onEvent?.((event) => this.#told(event));
    }
    return sampler.add({ interval: intervalMs, due: this.#clock.now(), onSample, onEnd });
  }

  #told(event: RuntimeEvent): void {
    if (event.type !== 'exited' && event.type !== 'deleted') return;
    this.#samplers.get(keyName(event.state.key))?.finish();
  }

  #drop(name: string): void {
    this.#samplers.delete(name);
    if (this.#samplers.size > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }
}

interface Watcher {
  interval: number;
  /** When the next sample should come, by the clock. */
  due: number;
  onSample: (stats: CgroupStats) => void;
  onEnd: () => void;
}

/** Samples one container for as long as somebody watches; then it is dropped and never used again. */
class Sampler {
  readonly #key: ContainerKey;
  readonly #source: StatsSource;
  readonly #clock: Clock;
  readonly #onEmpty: () => void;
  readonly #watchers = new Set<Watcher>();
  #cancel: (() => void) | undefined;
  #sampling = false;
  #finishing = false;
  #dropped = false;

  constructor(key: ContainerKey, source: StatsSource, clock: Clock, onEmpty: () => void) {
    this.#key = key;
    this.#source = source;
    this.#clock = clock;
    this.#onEmpty = onEmpty;
  }

  add(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    this.#schedule();
    return () => {
      if (this.#watchers.delete(watcher)) this.#schedule();
    };
  }

  /** Takes a last sample for everybody and ends. */
  finish(): void {
    this.#finishing = true;
    this.#schedule();
  }

  #schedule(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#dropped) return;
    if (this.#watchers.size === 0) {
      this.#drop();
    } else if (!this.#sampling) {
      let due = Number.POSITIVE_INFINITY;
      for (const watcher of this.#watchers) due = Math.min(due, watcher.due);
      const wait = this.#finishing ? 0 : Math.min(Math.max(due - this.#clock.now(), 0), LONGEST_WAIT);
      this.#cancel = this.#clock.after(wait, () => void this.#sample());
    }
  }

  #drop(): void {
    this.#dropped = true;
    this.#onEmpty();
  }

  async #sample(): Promise<void> {
    this.#cancel = undefined;
    this.#sampling = true;
    let stats: CgroupStats | undefined;
    try {
      stats = await this.#source.stats(this.#key);
    } catch {
      // No cgroup, no container, or a bad moment: whether it is the end is the state's to say.
    }
    this.#sampling = false;
    const state = this.#source.find(this.#key);
    const over = this.#finishing || state === undefined || state.status === 'stopped';
    const now = this.#clock.now();
    for (const watcher of [...this.#watchers]) {
      if (!this.#watchers.has(watcher)) continue;
      if (!over && watcher.due - now > watcher.interval * EARLY) continue;
      // Late samples are left out, not made up for: after a pause there is one, and then the old rhythm.
      watcher.due += watcher.interval * Math.max(1, Math.ceil((now - watcher.due) / watcher.interval));
      if (stats !== undefined) guarded(() => watcher.onSample(stats));
      if (over && this.#watchers.delete(watcher)) guarded(watcher.onEnd);
    }
    this.#schedule();
  }
}

/** A watcher that throws must not take the others' samples away, nor end the process. */
function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : String(error));
  }
}
