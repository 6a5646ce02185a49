import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { Metrics } from '../../../shim/gen/io/containerd/cgroups/v1/metrics.ts';
import type { StreamStatsResponse } from '../../../shim/gen/wherry/v1/runtime.ts';
import { StatsStream } from '../../../shim/grpc/stats-stream.ts';
import type { CgroupStats } from '../../../src/cgroup/stats.ts';
import { all, interval, setUp, stdio, until } from './support/grpc-world.ts';
import { MemoryRuntime, v1Sample } from './support/runtime.ts';

describe('StreamStats', () => {
  it('of one container begins at once, and ends with a last message when it exits', async () => {
    await using world = await setUp();
    const key = await world.live('box');
    const call = world.stream({ id: 'box', interval });
    let count = 0;
    call.on('data', () => {
      if (++count === 3) world.runtime.exit(key, 0);
    });
    const messages = await new Promise<StreamStatsResponse[]>((resolve, reject) => {
      const seen: StreamStatsResponse[] = [];
      call.on('data', (message: StreamStatsResponse) => seen.push(message));
      call.on('end', () => resolve(seen));
      call.on('error', reject);
    });
    assert.deepEqual(
      messages.map(({ sequence }) => sequence),
      messages.map((_message, index) => BigInt(index + 1)),
    );
    assert.ok(messages.length >= 4);
    assert.deepEqual(
      messages.map(({ last }) => last),
      messages.map((_message, index) => index === messages.length - 1),
    );
    assert.ok(
      messages.every(
        ({ id, namespace, stats }) =>
          id === 'box' && namespace === 'default' && stats?.typeUrl.endsWith('Metrics'),
      ),
    );
    await until('the end of the sampler', () => world.hub.size === 0);
    assert.equal(world.runtime.listeners.size, 2, 'groups and events');
  });

  it('of a stopped container is its last sample', async () => {
    await using world = await setUp();
    world.runtime.exit(await world.live('box'), 0);
    const messages = await all(world.stream({ id: 'box' }));
    assert.ok(Array.isArray(messages));
    assert.deepEqual(
      messages.map(({ sequence, last }) => [sequence, last]),
      [[1n, true]],
    );
  });

  it('of all has those of the namespace, and new ones join', async () => {
    await using world = await setUp();
    await world.live('one', '/c.sock');
    await world.live('elsewhere', '', 'other');
    const call = world.stream({ interval });
    const seen = new Set<string>();
    const last = new Set<string>();
    call.on('data', (message: StreamStatsResponse) => (message.last ? last : seen).add(message.id));
    call.on('error', () => undefined);
    await until('the first', () => seen.has('one'));
    const two = await world.live('two');
    await until('the second', () => seen.has('two'));
    world.runtime.exit(two, 0);
    await until('its last', () => last.has('two'));
    assert.equal(world.hub.size, 1);
    call.cancel();
    await until('the end of the samplers', () => world.hub.size === 0);
    assert.deepEqual([...seen], ['one', 'two']);
    assert.equal(world.runtime.listeners.size, 2, 'groups and events');
  });

  it('refuses an interval out of range, an unknown container and a bad name', async () => {
    await using world = await setUp();
    await world.live('box');
    const failures = [
      [{ id: 'box', interval: { seconds: 0n, nanos: 99_999_999 } }, 3, /^3 .*interval/],
      [{ id: 'box', interval: { seconds: 3600n, nanos: 1 } }, 3, /interval/],
      [{ id: 'box', interval: { seconds: -1n, nanos: 0 } }, 3, /interval/],
      [{ id: 'box', interval: {} }, 3, /interval/],
      [{ id: 'none' }, 5, /id "none": container not created/],
      [{ id: '../x' }, 3, /id: /],
      [{ namespace: 'a/b' }, 3, /namespace: /],
    ] as const;
    for (const [request, code, text] of failures) {
      const error = await all(world.stream(request));
      assert.ok(
        !Array.isArray(error),
        JSON.stringify(request, (_key, value) => String(value)),
      );
      assert.equal(error.code, code);
      assert.match(error.message, text);
    }
    for (const edge of [
      { seconds: 0n, nanos: 100_000_000 },
      { seconds: 3600n, nanos: 0 },
    ]) {
      const call = world.stream({ id: 'box', interval: edge });
      call.on('error', () => undefined);
      await new Promise((resolve) => call.once('data', resolve));
      call.cancel();
    }
  });

  it('skips samples of a slow reader, keeps at most one for it and tells how many', async () => {
    const runtime = new MemoryRuntime();
    const key = { scope: '', namespace: 'ns', id: 'box' };
    const state = await runtime.create({ key, bundle: '/b', rootfsMounts: [], stdio }, { requestId: '' });
    let push: (stats: CgroupStats) => void = () => assert.fail('nobody subscribed');
    let freed = 0;
    const source = {
      subscribe: (_key: unknown, _interval: number, onSample: (stats: CgroupStats) => void) => {
        push = onSample;
        return () => void freed++;
      },
    };
    const sent: StreamStatsResponse[] = [];
    let done: () => void = () => assert.fail('nothing was sent');
    let ended = false;
    const sink = {
      send(message: StreamStatsResponse, next: () => void) {
        sent.push(message);
        done = next;
      },
      end: () => {
        ended = true;
      },
    };
    const stream = new StatsStream(runtime, source, sink, 100, state);
    for (let count = 1; count <= 10; count++) push(v1Sample(BigInt(count)));
    assert.equal(sent.length, 1, 'the reader has not taken the first');
    done();
    assert.deepEqual(
      sent.map(({ sequence, dropped }) => [sequence, dropped]),
      [
        [1n, 0n],
        [10n, 8n],
      ],
    );
    assert.equal(Metrics.decode(sent[1]?.stats?.value ?? Buffer.alloc(0)).cpu?.usage?.total, 10n);
    done();
    assert.equal(sent.length, 2);
    push(v1Sample(11n));
    push(v1Sample(12n));
    runtime.exit(key, 0);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(ended, false, 'the last message waits for the reader');
    done();
    assert.deepEqual(
      sent.slice(2).map(({ sequence, dropped, last }) => [sequence, dropped, last]),
      [
        [11n, 8n, false],
        [13n, 9n, true],
      ],
    );
    assert.equal(ended, false);
    done();
    assert.equal(ended, true);
    stream.close();
    assert.deepEqual([freed > 0, runtime.listeners.size], [true, 0]);
  });

  it('holds nothing back for a reader that stands still', async () => {
    await using world = await setUp();
    await world.live('box');
    const hub = world.hub;
    const subscribe = hub.subscribe.bind(hub);
    let push: ((stats: CgroupStats) => void) | undefined;
    hub.subscribe = (key, intervalMs, onSample, onEnd) => {
      push = onSample;
      return subscribe(key, intervalMs, onSample, onEnd);
    };
    const call = world.stream({ id: 'box', interval: { seconds: 3600n, nanos: 0 } });
    call.on('error', () => undefined);
    await new Promise((resolve) => call.once('data', resolve));
    call.pause();
    // 20,000 samples of half a kilobyte: what is not skipped would be megabytes of waiting messages.
    let sequence = 0n;
    for (let round = 0; round < 200; round++) {
      for (let count = 0; count < 100; count++) push?.(v1Sample(++sequence));
      await new Promise((resolve) => setImmediate(resolve));
    }
    let received = 0n;
    let last: StreamStatsResponse | undefined;
    call.on('data', (message: StreamStatsResponse) => {
      received++;
      last = message;
    });
    call.resume();
    await until('the newest', () => last?.sequence === sequence + 1n);
    assert.equal(received + (last?.dropped ?? 0n), sequence);
    assert.ok(received < 2000n, `${received} were kept`);
    call.cancel();
  });

  it('reads the namespace from the metadata', async () => {
    await using world = await setUp();
    await world.live('box', '', 'moby');
    const metadata = new Metadata();
    metadata.set('containerd-namespace', 'moby');
    const call = world.stream({ id: 'box' }, metadata);
    call.on('error', () => undefined);
    const message = await new Promise<StreamStatsResponse>((resolve) => call.once('data', resolve));
    assert.equal(message.namespace, 'moby');
    call.cancel();
  });

  it('leaves no socket behind', async () => {
    const world = await setUp();
    const { path } = world;
    await world[Symbol.asyncDispose]();
    assert.equal(existsSync(path), false);
  });
});
