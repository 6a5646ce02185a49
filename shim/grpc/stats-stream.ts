/**
 * One StreamStats call: samples of one container, or of all of a namespace. At most one message is on its way and at most one
 * waits for each container; a sample that comes before its predecessor was taken replaces it and is counted.
 */
import type { CgroupStats } from '../../src/cgroup/stats.ts';
import { keyName } from '../../src/container/key.ts';
import type { ContainerKey, ContainerState } from '../../src/container/types.ts';
import { WherryError } from '../../src/errors.ts';
import type { Duration } from '../gen/google/protobuf/duration.ts';
import type { StreamStatsResponse } from '../gen/wherry/v1/runtime.ts';
import type { ShimRuntime } from '../runtime.ts';
import { encodeMetrics } from '../task/metrics.ts';

/** One sampler per container, however many read it (src/cgroup/sampler.ts). */
export interface StatsSource {
  /** The first sample comes at once. `onEnd`: no more will come. Returns the function that unsubscribes. */
  subscribe(
    key: ContainerKey,
    intervalMs: number,
    onSample: (stats: CgroupStats) => void,
    onEnd: () => void,
  ): () => void;
}

export interface StatsSink {
  /** `done` when the reader can take the next. */
  send(message: StreamStatsResponse, done: () => void): void;
  end(): void;
}

const DEFAULT_INTERVAL_MS = 1000;
const MIN_INTERVAL_MS = 100;
const MAX_INTERVAL_MS = 3_600_000;

/** Milliseconds; invalid-argument outside 100 ms to 1 h. */
export function intervalOf(duration: Duration | undefined): number {
  if (duration === undefined) return DEFAULT_INTERVAL_MS;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (!(ms >= MIN_INTERVAL_MS && ms <= MAX_INTERVAL_MS)) {
    throw new WherryError('invalid-argument', `interval: ${ms / 1000}s is out of range`, {
      path: 'interval',
      hint: 'use 0.1s to 3600s',
    });
  }
  return ms;
}

interface Subject {
  key: ContainerKey;
  unsubscribe: () => void;
  sequence: bigint;
  dropped: bigint;
  waiting: StreamStatsResponse | undefined;
  stats: CgroupStats | undefined;
  ended: boolean;
}

export class StatsStream {
  private readonly runtime: Pick<ShimRuntime, 'list' | 'stats' | 'onEvent'>;
  private readonly source: StatsSource;
  private readonly sink: StatsSink;
  private readonly intervalMs: number;
  private readonly subjects = new Map<string, Subject>();
  private readonly unsubscribe: () => void;
  private single: string | undefined;
  private busy = false;
  private closed = false;

  /** `subject`: a container, or the namespace whose containers are all meant. */
  constructor(
    runtime: Pick<ShimRuntime, 'list' | 'stats' | 'onEvent'>,
    source: StatsSource,
    sink: StatsSink,
    intervalMs: number,
    subject: ContainerState | string,
  ) {
    this.runtime = runtime;
    this.source = source;
    this.sink = sink;
    this.intervalMs = intervalMs;
    const single = typeof subject === 'string' ? undefined : keyName(subject.key);
    this.single = single;
    this.unsubscribe = runtime.onEvent(({ type, state }) => {
      const name = keyName(state.key);
      if (type === 'created' && state.key.namespace === subject) this.add(state);
      else if (type === 'exited') void this.finish(name);
      else if (type === 'deleted') void this.finish(name);
    });
    const containers = typeof subject === 'string' ? runtime.list({ namespace: subject }) : [subject];
    for (const state of containers) if (single !== undefined || state.status !== 'stopped') this.add(state);
  }

  /** Frees the samplers. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.unsubscribe();
    for (const { unsubscribe } of this.subjects.values()) unsubscribe();
    this.subjects.clear();
  }

  private add(state: ContainerState): void {
    const name = keyName(state.key);
    if (state.status === 'creating' || this.subjects.has(name)) return;
    const subject: Subject = {
      key: state.key,
      unsubscribe: () => undefined,
      sequence: 0n,
      dropped: 0n,
      waiting: undefined,
      stats: undefined,
      ended: false,
    };
    this.subjects.set(name, subject);
    if (state.status === 'stopped') {
      void this.finish(name);
      return;
    }
    subject.unsubscribe = this.source.subscribe(
      state.key,
      this.intervalMs,
      (stats) => this.sample(subject, stats, false),
      () => void this.finish(name),
    );
    // A source that ended at once did so before it gave us the way to unsubscribe.
    if (subject.ended) subject.unsubscribe();
  }

  private async finish(name: string): Promise<void> {
    const subject = this.subjects.get(name);
    if (subject === undefined || subject.ended) return;
    subject.ended = true;
    subject.unsubscribe();
    // Its cgroup stays until delete, so the last sample holds the whole life.
    const stats = await this.runtime.stats(subject.key).catch(() => subject.stats);
    if (!this.closed) this.sample(subject, stats, true);
  }

  private sample(subject: Subject, stats: CgroupStats | undefined, last: boolean): void {
    if (this.closed || (subject.ended && !last)) return;
    subject.stats = stats;
    subject.sequence++;
    if (subject.waiting !== undefined) subject.dropped++;
    subject.waiting = {
      id: subject.key.id,
      namespace: subject.key.namespace,
      timestamp: stats?.takenAt ?? new Date(),
      stats: stats && encodeMetrics(stats),
      sequence: subject.sequence,
      dropped: subject.dropped,
      last,
    };
    this.pump();
  }

  private pump(): void {
    if (this.busy || this.closed) return;
    for (const [name, subject] of this.subjects) {
      const message = subject.waiting;
      if (message === undefined) continue;
      subject.waiting = undefined;
      // To the end of the order, so that a busy container does not keep the others waiting.
      this.subjects.delete(name);
      if (!message.last) this.subjects.set(name, subject);
      this.busy = true;
      this.sink.send(message, () => {
        this.busy = false;
        if (message.last && this.single === name && !this.closed) {
          this.close();
          this.sink.end();
        }
        this.pump();
      });
      return;
    }
  }
}
