import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { CreateTaskRequest, StateRequest, StateResponse } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Metrics } from '../../../shim/gen/io/containerd/cgroups/v1/metrics.ts';
import { StreamStatsRequest, StreamStatsResponse } from '../../../shim/gen/wherry/v1/runtime.ts';
import { StatsStream } from '../../../shim/grpc/stats-stream.ts';
import type { ShimServicesDependencies } from '../../../shim/main.ts';
import { StatsHub } from '../../../src/cgroup/sampler.ts';
import type { CgroupStats } from '../../../src/cgroup/stats.ts';
import { bufCurl, bufServices, serveOnDescriptor } from './support/grpc.ts';
import { MemoryRuntime, v1Sample } from './support/runtime.ts';
import { createWorld, runCommand } from './support/world.ts';

const TASK = 'containerd.task.v3.Task';
const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };

async function setUp(overrides: Partial<ShimServicesDependencies> = {}) {
  const runtime = new MemoryRuntime();
  const hub = new StatsHub(runtime);
  const world = createWorld({ runtime, statsHub: hub, ...overrides });
  const path = join(world.dir, 'grpc.sock');
  const bound = await serveOnDescriptor(world.services, path);
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  const live = async (id: string, scope = '', namespace = 'default') => {
    const key = { scope, namespace, id };
    await runtime.create({ key, bundle: '/b', rootfsMounts: [], stdio }, { requestId: '' });
    await runtime.start(key);
    return key;
  };
  const unary = (method: string, request: Buffer, metadata = new Metadata()) =>
    new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(
        `/${TASK}/${method}`,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        request,
        metadata,
        (error, value) => (error === null && value !== undefined ? resolve(value) : reject(error)),
      );
    });
  const stream = (request: Parameters<typeof StreamStatsRequest.fromPartial>[0], metadata = new Metadata()) =>
    client.makeServerStreamRequest(
      '/wherry.v1.Runtime/StreamStats',
      (value: StreamStatsRequest) => Buffer.from(StreamStatsRequest.encode(value).finish()),
      (bytes) => StreamStatsResponse.decode(bytes),
      StreamStatsRequest.fromPartial(request),
      metadata,
    );
  return {
    runtime,
    hub,
    world,
    path,
    live,
    unary,
    stream,
    async [Symbol.asyncDispose]() {
      client.close();
      await world[Symbol.asyncDispose]();
      bound.close();
    },
  };
}

const interval = { seconds: 0n, nanos: 100_000_000 };

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** All messages until the end, or the error. */
async function all(
  call: ReturnType<Awaited<ReturnType<typeof setUp>>['stream']>,
): Promise<StreamStatsResponse[] | ServiceError> {
  const messages: StreamStatsResponse[] = [];
  try {
    for await (const message of call) messages.push(message as StreamStatsResponse);
    return messages;
  } catch (error) {
    return error as ServiceError;
  }
}

describe('gRPC by buf curl, with reflection alone', () => {
  it('lists the services', async () => {
    await using world = await setUp();
    assert.deepEqual(await bufServices(world.path), [
      'containerd.task.v2.Task',
      'containerd.task.v3.Task',
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
      'wherry.v1.Runtime',
    ]);
  });

  it('takes a container through its life', async () => {
    await using world = await setUp();
    const { path, runtime } = world;
    const call = (method: string, data: object, headers: string[] = []) =>
      bufCurl(path, `${TASK}/${method}`, JSON.stringify(data), headers);
    assert.deepEqual((await call('Create', { id: 'box', bundle: '/bundle' })).messages, [{ pid: 100 }]);
    assert.deepEqual(runtime.list()[0]?.key, { scope: '', namespace: 'default', id: 'box' });
    assert.deepEqual((await call('Start', { id: 'box' })).messages, [{ pid: 100 }]);
    const [stats] = (await call('Stats', { id: 'box' })).messages;
    assert.deepEqual(stats?.['stats'], {
      '@type': 'io.containerd.cgroups.v1.Metrics',
      pids: { current: '3', limit: '100' },
      cpu: { usage: { total: '1000', kernel: '1', user: '2', perCpu: ['1', '2'] }, throttling: {} },
      memory: {
        cache: '11',
        totalPgFault: '12',
        hierarchicalSwapLimit: '13',
        usage: { limit: '9223372036854775808', usage: '4096', max: '8192' },
      },
    });
    await call('Kill', { id: 'box', signal: 9 });
    assert.equal((await call('Wait', { id: 'box' })).messages[0]?.['exitStatus'], 137);
    assert.equal((await call('Delete', { id: 'box' })).messages[0]?.['exitStatus'], 137);
    assert.deepEqual(runtime.list(), []);
    await call('Create', { id: 'box', bundle: '/bundle' }, ['containerd-namespace: moby']);
    assert.deepEqual(runtime.list()[0]?.key, { scope: '', namespace: 'moby', id: 'box' });
    const listed = await bufCurl(path, 'wherry.v1.Runtime/ListContainers');
    assert.deepEqual(listed.messages[0]?.['containers'], [
      {
        id: 'box',
        namespace: 'moby',
        status: 'CONTAINER_STATUS_CREATED',
        pid: 101,
        bundle: '/bundle',
        createdAt: '2023-11-14T22:13:20Z',
      },
    ]);
    assert.equal((await bufCurl(path, 'wherry.v1.Runtime/Version')).messages[0]?.['version'], '9.9.9');
    assert.deepEqual((await bufCurl(path, 'grpc.health.v1.Health/Check', `{"service":"${TASK}"}`)).messages, [
      { status: 'SERVING' },
    ]);
    assert.match(
      (await bufCurl(path, 'grpc.health.v1.Health/Check', '{"service":"x"}')).stderr,
      /"code": "not_found"/,
    );
  });

  it('names what is wrong', async () => {
    await using world = await setUp();
    await world.live('box');
    for (const [method, data, code, text] of [
      ['Create', '{}', 'invalid_argument', 'id: must not be empty'],
      ['State', '{"id":"none"}', 'not_found', 'id \\"none\\": container not created'],
      ['Start', '{"id":"box"}', 'failed_precondition', '(id)'],
      ['Checkpoint', '{"id":"box"}', 'invalid_argument', 'path: expected an absolute path'],
    ] as const) {
      const { code: status, stderr } = await bufCurl(world.path, `${TASK}/${method}`, data);
      assert.notEqual(status, 0);
      assert.ok(
        stderr.includes(`"code": "${code}"`) && stderr.includes(text.replaceAll('\\"', '\\"')),
        stderr,
      );
    }
  });
});

describe('gRPC', () => {
  it('finds a container of containerd by namespace and id, its own first', async () => {
    await using world = await setUp();
    await world.live('box', '/c.sock');
    const state = async () =>
      StateResponse.decode(
        await world.unary('State', Buffer.from(StateRequest.encode({ id: 'box', execId: '' }).finish())),
      );
    assert.equal((await state()).pid, 100);
    await world.live('box');
    assert.equal((await state()).pid, 101);
  });

  it('knows the containers of a containerd that names no namespace', async () => {
    await using world = await setUp({ config: { protocol: 'grpc' } });
    const start = (namespace: string, id: string) =>
      runCommand(world.world.services, ['-namespace', namespace, '-address', '/c.sock', '-id', id, 'start'], {
        cwd: world.world.dir,
        env: { MAX_SHIM_VERSION: '2' },
      });
    const create = (id: string) =>
      world.unary(
        'Create',
        Buffer.from(
          CreateTaskRequest.encode(CreateTaskRequest.fromPartial({ id, bundle: world.world.dir })).finish(),
        ),
      );
    await start('moby', 'box');
    await create('box');
    await create('local');
    assert.deepEqual(
      world.runtime.list().map(({ key }) => key),
      [
        { scope: '/c.sock', namespace: 'moby', id: 'box' },
        { scope: '', namespace: 'default', id: 'local' },
      ],
    );
    const state = (id: string) =>
      world.unary('State', Buffer.from(StateRequest.encode({ id, execId: '' }).finish()));
    assert.equal(StateResponse.decode(await state('box')).pid, 100);
    assert.equal(StateResponse.decode(await state('local')).pid, 101);
    await start('k8s', 'box');
    await create('box');
    assert.deepEqual(world.runtime.list()[2]?.key, { scope: '/c.sock', namespace: 'k8s', id: 'box' });
    await assert.rejects(state('box'), { code: 9, details: /id: box is in several namespaces/ });
    await world.runtime.delete({ scope: '/c.sock', namespace: 'moby', id: 'box' }, true);
    assert.equal(StateResponse.decode(await state('box')).pid, 102);
  });

  it('calls malformed bytes the fault of the caller', async () => {
    await using world = await setUp();
    await assert.rejects(world.unary('State', Buffer.from('0aff', 'hex')), { code: 3 });
  });

  it('ends a Wait when the caller goes', async () => {
    await using world = await setUp();
    await world.live('box');
    const { runtime } = world;
    const wait = runtime.wait.bind(runtime);
    const aborted = Promise.withResolvers<void>();
    runtime.wait = (key, context) => {
      context.signal?.addEventListener('abort', () => aborted.resolve());
      return wait(key, context);
    };
    const client = new Client(`unix:${world.path}`, credentials.createInsecure());
    const request = Buffer.from(StateRequest.encode({ id: 'box', execId: '' }).finish());
    const call = client.makeUnaryRequest(
      `/${TASK}/Wait`,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
      request,
      () => undefined,
    );
    const seen = runtime.wait;
    await until('the call', () => runtime.wait === seen);
    setTimeout(() => call.cancel(), 100);
    await aborted.promise;
    client.close();
  });
});

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
