import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, StatsHub, type StatsSource } from '../../../src/cgroup/sampler.ts';
import type { CgroupStats } from '../../../src/cgroup/stats.ts';
import type {
  ContainerKey,
  ContainerState,
  ContainerStatus,
  RuntimeEvent,
} from '../../../src/container/types.ts';
import { WherryError } from '../../../src/errors.ts';

const key: ContainerKey = { scope: '', namespace: 'default', id: 'c1' };

/** Time that only moves when told; every step lets promises settle. */
class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, run: () => void): () => void {
    const timer = { at: this.#now + milliseconds, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get pending(): number {
    return this.#timers.size;
  }

  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
    }
    this.#now = end;
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A runtime of one container whose cgroup is counted, not read. */
class Source implements StatsSource {
  taken = 0;
  status: ContainerStatus | undefined = 'running';
  readable = true;
  gate: Promise<void> | undefined;
  listeners = new Set<(event: RuntimeEvent) => void>();

  async stats(): Promise<CgroupStats> {
    await this.gate;
    if (!this.readable) throw new WherryError('not-found', 'cgroup does not exist');
    this.taken++;
    return { version: 2, takenAt: new Date(0), pids: { current: BigInt(this.taken), limit: 0n } };
  }

  find(): ContainerState | undefined {
    return this.status === undefined ? undefined : ({ key, status: this.status } as ContainerState);
  }

  onEvent(listener: (event: RuntimeEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  exited(): void {
    this.status = 'stopped';
    const state = { key, status: 'stopped' } as ContainerState;
    for (const listener of [...this.listeners]) {
      listener({ type: 'exited', state, exit: { pid: 1, exitStatus: 0, exitedAt: new Date(0) } });
    }
  }
}

function watch(hub: StatsHub, interval: number) {
  const seen: bigint[] = [];
  let ended = 0;
  const stop = hub.subscribe(
    key,
    interval,
    (stats) => seen.push((stats.version === 2 ? stats.pids?.current : undefined) ?? -1n),
    () => ended++,
  );
  return { seen, stop, ended: () => ended };
}

test('the first sample comes at once, the next ones at the interval', async () => {
  const clock = new ManualClock();
  const hub = new StatsHub(new Source(), clock);
  const { seen, stop } = watch(hub, 1000);
  assert.deepEqual(seen, []);
  await clock.advance(0);
  assert.deepEqual(seen, [1n]);
  await clock.advance(999);
  assert.deepEqual(seen, [1n]);
  await clock.advance(2001);
  assert.deepEqual(seen, [1n, 2n, 3n, 4n]);
  stop();
});

test('however many watch, each moment is sampled once', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const hub = new StatsHub(source, clock);
  const watchers = Array.from({ length: 50 }, () => watch(hub, 1000));
  const slow = watch(hub, 2000);
  await clock.advance(4000);
  assert.equal(source.taken, 5);
  assert.equal(hub.size, 1);
  for (const { seen } of watchers) assert.deepEqual(seen, [1n, 2n, 3n, 4n, 5n]);
  assert.deepEqual(slow.seen, [1n, 3n, 5n]);
});

test('a sampler that nobody watches is gone: no timer, no listener, no sample', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const hub = new StatsHub(source, clock);
  const first = watch(hub, 100);
  const second = watch(hub, 100);
  await clock.advance(0);
  first.stop();
  first.stop();
  assert.equal(hub.size, 1);
  second.stop();
  assert.deepEqual([hub.size, clock.pending, source.listeners.size], [0, 0, 0]);
  await clock.advance(1000);
  assert.equal(source.taken, 1);
  assert.equal(second.ended(), 0);
});

test('nothing is delivered after unsubscribing, not even a sample under way', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const gate = Promise.withResolvers<void>();
  source.gate = gate.promise;
  const hub = new StatsHub(source, clock);
  const { seen, stop, ended } = watch(hub, 100);
  await clock.advance(0);
  stop();
  gate.resolve();
  await clock.advance(1000);
  assert.deepEqual([seen, ended(), hub.size, clock.pending], [[], 0, 0, 0]);
});

test('a slow sample is never overlapped nor made up for', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const gate = Promise.withResolvers<void>();
  source.gate = gate.promise;
  const { seen } = watch(new StatsHub(source, clock), 100);
  await clock.advance(950);
  source.gate = undefined;
  gate.resolve();
  await settled();
  assert.deepEqual(seen, [1n]);
  await clock.advance(50);
  assert.deepEqual(seen, [1n, 2n]);
});

test('at the exit: one last sample for all, at once, then the end', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const hub = new StatsHub(source, clock);
  const hourly = watch(hub, 3_600_000);
  const other = watch(hub, 100);
  await clock.advance(10);
  source.exited();
  await clock.advance(0);
  assert.deepEqual([hourly.seen, hourly.ended()], [[1n, 2n], 1]);
  assert.deepEqual([other.seen, other.ended()], [[1n, 2n], 1]);
  assert.deepEqual([hub.size, clock.pending, source.listeners.size], [0, 0, 0]);
});

test('without events the end is seen at the next sample; a cgroup that is gone gives none', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const { stats, find } = { stats: () => source.stats(), find: () => source.find() };
  const { seen, ended } = watch(new StatsHub({ stats, find }, clock), 100);
  await clock.advance(0);
  source.status = undefined;
  source.readable = false;
  await clock.advance(99);
  assert.equal(ended(), 0);
  await clock.advance(1);
  assert.deepEqual([seen, ended()], [[1n], 1]);
});

test('a sample that fails while the container runs is left out', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const { seen, ended } = watch(new StatsHub(source, clock), 100);
  source.readable = false;
  await clock.advance(100);
  source.readable = true;
  await clock.advance(100);
  assert.deepEqual([seen, ended()], [[1n], 0]);
});

test("a watcher that throws does not take the others' samples", async (t) => {
  const clock = new ManualClock();
  const hub = new StatsHub(new Source(), clock);
  const warned = t.mock.method(process, 'emitWarning', () => {});
  hub.subscribe(
    key,
    100,
    () => {
      throw new Error('broken watcher');
    },
    () => {},
  );
  const { seen } = watch(hub, 100);
  await clock.advance(100);
  assert.deepEqual(seen, [1n, 2n]);
  assert.equal(warned.mock.callCount(), 2);
});

test('who comes while a sample is under way gets that one', async () => {
  const clock = new ManualClock();
  const source = new Source();
  const gate = Promise.withResolvers<void>();
  source.gate = gate.promise;
  const hub = new StatsHub(source, clock);
  const first = watch(hub, 100);
  await clock.advance(10);
  const second = watch(hub, 100);
  await clock.advance(10);
  gate.resolve();
  await settled();
  assert.deepEqual([first.seen, second.seen, source.taken], [[1n], [1n], 1]);
});

test('a watcher may stop another one while both are being told', async () => {
  const clock = new ManualClock();
  const hub = new StatsHub(new Source(), clock);
  let stopSecond = () => {};
  const stopFirst = hub.subscribe(
    key,
    100,
    () => {
      stopFirst();
      stopSecond();
    },
    () => {},
  );
  const { seen, stop } = watch(hub, 100);
  stopSecond = stop;
  await clock.advance(1000);
  assert.deepEqual([seen, hub.size, clock.pending], [[], 0, 0]);
});
