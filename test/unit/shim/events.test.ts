import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EventJournal } from '../../../shim/events/journal.ts';
import { EventPublisher } from '../../../shim/events/publisher.ts';
import { TaskCreate, TaskDelete, TaskExit, TaskStart } from '../../../shim/gen/containerd/events/task.ts';
import {
  type Envelope,
  ForwardRequest,
} from '../../../shim/gen/containerd/services/events/ttrpc/v1/events.ts';
import { Empty } from '../../../shim/gen/google/protobuf/empty.ts';
import { encodeFrame, FrameCutter } from '../../../shim/ttrpc/frame.ts';
import { serveTtrpcConnection } from '../../../shim/ttrpc/server.ts';
import { unary } from '../../../shim/ttrpc/service.ts';
import { WherryError } from '../../../src/errors.ts';
import { MemoryRuntime } from './support/runtime.ts';
import { recordingLog } from './support/world.ts';

/** containerd's events service. `take` may refuse. */
async function listen(path: string, take: (envelope: Envelope) => void | Promise<void>) {
  const sockets = new Set<Socket>();
  const forward = unary({
    request: ForwardRequest,
    response: Empty,
    handle: async ({ envelope }: ForwardRequest) => {
      if (envelope === undefined) throw new Error('no envelope');
      await take(envelope);
      return {};
    },
  });
  const server = createServer((socket) => {
    sockets.add(socket);
    const { onFrame } = serveTtrpcConnection({
      services: new Map([['containerd.services.events.ttrpc.v1.Events', { Forward: forward }]]),
      send: (frame) => void socket.write(frame),
      context: { namespace: '', scope: '', listenerId: 0n },
      name: 'containerd',
    });
    const cutter = new FrameCutter(
      ({ streamId, type, flags, payload }) => onFrame(encodeFrame(streamId, type, flags, payload)),
      () => undefined,
    );
    socket.on('data', (chunk: Buffer) => cutter.push(chunk));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function setUp() {
  const dir = mkdtempSync(join(tmpdir(), 'wherry-events-'));
  const runtime = new MemoryRuntime();
  const log = recordingLog();
  const address = join(dir, 'events.sock');
  const publisher = new EventPublisher(
    runtime,
    (scope) => (scope === '/c.sock' ? `unix://${address}` : undefined),
    log,
  );
  const live = async (id: string, scope = '/c.sock') => {
    const key = { scope, namespace: 'ns', id };
    const stdio = { stdin: '', stdout: '/out', stderr: '', terminal: false };
    const rootfsMounts = [{ type: 'bind', source: '/src', target: '', options: ['rbind'] }];
    await runtime.create({ key, bundle: '/b', rootfsMounts, stdio }, { requestId: '' });
    await runtime.start(key);
    runtime.exit(key, 3);
    await runtime.delete(key, false);
  };
  return {
    runtime,
    log,
    address,
    publisher,
    live,
    async [Symbol.asyncDispose]() {
      await publisher.close(0);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

const topics = ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete'];

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) assert.fail('it never came');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('events', () => {
  it('reach containerd in order, with the fields that it reads', async () => {
    await using world = setUp();
    const seen: Envelope[] = [];
    const containerd = await listen(world.address, (envelope) => void seen.push(envelope));
    await world.live('box');
    await world.live('local', '');
    await world.publisher.flush(5000);
    await containerd.stop();
    assert.deepEqual(
      seen.map(({ topic }) => topic),
      topics,
    );
    assert.deepEqual(
      seen.map(({ namespace }) => namespace),
      ['ns', 'ns', 'ns', 'ns'],
    );
    assert.ok(seen.every(({ timestamp }) => (timestamp?.getTime() ?? 0) > 0));
    const names = ['TaskCreate', 'TaskStart', 'TaskExit', 'TaskDelete'];
    assert.deepEqual(
      seen.map(({ event }) => event?.typeUrl),
      names.map((name) => `containerd.events.${name}`),
    );
    const values = seen.map(({ event }) => event?.value ?? Buffer.alloc(0));
    assert.deepEqual(TaskCreate.decode(values[0]!), {
      containerId: 'box',
      bundle: '/b',
      checkpoint: '',
      pid: 100,
      rootfs: [{ type: 'bind', source: '/src', target: '', options: ['rbind'] }],
      io: { stdin: '', stdout: '/out', stderr: '', terminal: false },
    });
    assert.deepEqual(TaskStart.decode(values[1]!), { containerId: 'box', pid: 100 });
    const exit = { containerId: 'box', pid: 100, exitStatus: 3, exitedAt: new Date(1_700_000_001_500) };
    assert.deepEqual(TaskExit.decode(values[2]!), { ...exit, id: 'box' });
    assert.deepEqual(TaskDelete.decode(values[3]!), { ...exit, id: '' });
  });

  it('wait for a containerd that is away, and come in order when it is back', async () => {
    await using world = setUp();
    const seen: string[] = [];
    const take = ({ topic, event }: Envelope) =>
      void seen.push(`${TaskStart.decode(event?.value ?? Buffer.alloc(0)).containerId} ${topic}`);
    await world.live('one');
    await world.publisher.flush(60_000);
    const first = await listen(world.address, take);
    await until(() => seen.length === 4);
    await first.stop();
    await world.live('two');
    const second = await listen(world.address, take);
    await until(() => seen.length === 8);
    await second.stop();
    assert.deepEqual(seen, [
      ...topics.map((topic) => `one ${topic}`),
      ...topics.map((topic) => `two ${topic}`),
    ]);
  });

  it('that containerd refuses do not hold up the next', async () => {
    await using world = setUp();
    const seen: string[] = [];
    let refused = 0;
    const containerd = await listen(world.address, ({ topic }) => {
      if (topic === '/tasks/start') refused++;
      if (topic === '/tasks/start') throw new WherryError('invalid-argument', 'not this one');
      seen.push(topic);
    });
    await world.live('box');
    await until(() => seen.length === 3);
    await containerd.stop();
    assert.equal(refused, 1);
    assert.deepEqual(
      seen,
      topics.filter((topic) => topic !== '/tasks/start'),
    );
    assert.deepEqual(
      world.log.lines.filter(({ level }) => level === 'error').map(({ fields }) => fields?.topic),
      ['/tasks/start'],
    );
  });

  it('are asked for again where containerd failed once', async () => {
    await using world = setUp();
    const seen: string[] = [];
    let failures = 1;
    const containerd = await listen(world.address, ({ topic }) => {
      if (topic === '/tasks/start' && failures-- > 0) throw new Error('database is locked');
      seen.push(topic);
    });
    await world.live('box');
    await until(() => seen.length === 4);
    await containerd.stop();
    assert.deepEqual(seen, topics);
  });

  it('are told again of a container that has the id of an earlier one, and not of the same one', async () => {
    await using world = setUp();
    await world.publisher.close(0);
    const dir = mkdtempSync(join(tmpdir(), 'wherry-journal-'));
    const seen: string[] = [];
    const containerd = await listen(world.address, ({ topic }) => void seen.push(topic));
    const key = { scope: '/c.sock', namespace: 'ns', id: 'again' };
    const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
    const request = { key, bundle: '/b', rootfsMounts: [], stdio };
    let journal = new EventJournal(dir, world.log);
    const publish = () =>
      new EventPublisher(world.runtime, () => `unix://${world.address}`, world.log, journal);
    let publisher = publish();
    for (const life of [1, 2]) {
      const state = await world.runtime.create(request, { requestId: '' });
      // The next wherryd takes the container up and tells of it again.
      await publisher.close(5000);
      journal.close();
      journal = new EventJournal(dir, world.log);
      publisher = publish();
      world.runtime.emit({ type: 'created', state, rootfsMounts: [] });
      // What Delete answers is the exit of this life, or nothing yet.
      assert.deepEqual(journal.deleted(), []);
      await world.runtime.start(key);
      world.runtime.exit(key, life);
      const exit = await world.runtime.delete(key, false);
      // One that died before the directory had gone tells even more; so does the next, which has only what that one left of the journal.
      for (let death = 0; death < 3; death++) {
        world.runtime.emit({ type: 'created', state, rootfsMounts: [] });
        world.runtime.emit({ type: 'deleted', state, exit });
        await publisher.close(5000);
        journal.close();
        journal = new EventJournal(dir, world.log);
        publisher = publish();
      }
    }
    assert.equal(journal.deleted().at(-1)?.exit.exitStatus, 2);
    await publisher.close(5000);
    journal.close();
    await containerd.stop();
    rmSync(dir, { recursive: true });
    assert.deepEqual(seen, [...topics, ...topics]);
  });

  it('say paused and resumed in turns, also when the next wherryd tells one again', async () => {
    await using world = setUp();
    await world.publisher.close(0);
    const dir = mkdtempSync(join(tmpdir(), 'wherry-journal-'));
    const seen: string[] = [];
    const containerd = await listen(
      world.address,
      ({ topic }) => void seen.push(topic.replace('/tasks/', '')),
    );
    const key = { scope: '/c.sock', namespace: 'ns', id: 'turns' };
    const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
    const request = { key, bundle: '/b', rootfsMounts: [], stdio };
    const open = () => {
      const journal = new EventJournal(dir, world.log);
      const address = () => `unix://${world.address}`;
      return { journal, publisher: new EventPublisher(world.runtime, address, world.log, journal) };
    };
    let now = open();
    const state = await world.runtime.create(request, { requestId: '' });
    for (const type of ['paused', 'resumed', 'paused', 'resumed'] as const) {
      world.runtime.emit({ type, state });
      await now.publisher.close(5000);
      now.journal.close();
      now = open();
      world.runtime.emit({ type, state });
    }
    await now.publisher.close(5000);
    now.journal.close();
    await containerd.stop();
    rmSync(dir, { recursive: true });
    assert.deepEqual(seen, ['create', 'paused', 'resumed', 'paused', 'resumed']);
  });

  it('are kept up to 16 MiB, then the oldest go and a warning says so; what is kept outlives wherryd', async () => {
    await using world = setUp();
    await world.publisher.close(0);
    const dir = mkdtempSync(join(tmpdir(), 'wherry-journal-'));
    const publish = (journal: EventJournal) =>
      new EventPublisher(world.runtime, () => `unix://${world.address}`, world.log, journal);
    const first = new EventJournal(dir, world.log);
    const publisher = publish(first);
    const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
    const bundle = '/'.padEnd(100_000, 'b');
    const ids = Array.from({ length: 200 }, (_, index) => `c${index}`);
    for (const id of ids) {
      const key = { scope: '/c.sock', namespace: 'ns', id };
      await world.runtime.create({ key, bundle, rootfsMounts: [], stdio }, { requestId: '' });
    }
    await publisher.close(0);
    first.close();
    const warnings = world.log.lines.filter(({ message }) => message.includes('the oldest are dropped'));
    assert.deepEqual(
      warnings.map(({ level }) => level),
      ['warn'],
    );
    assert.ok(statSync(join(dir, 'events')).size < 3 * (16 << 20));

    const seen: string[] = [];
    const containerd = await listen(
      world.address,
      ({ event }) => void seen.push(TaskCreate.decode(event?.value ?? Buffer.alloc(0)).containerId),
    );
    const second = new EventJournal(dir, world.log);
    const next = publish(second);
    await next.flush(60_000);
    await next.close(0);
    second.close();
    await containerd.stop();
    rmSync(dir, { recursive: true });
    // The first one was under way when the others came.
    assert.equal(seen[0], ids[0]);
    assert.deepEqual(seen.slice(1), ids.slice(ids.length - seen.length + 1));
    assert.equal(seen.length, Math.floor((16 << 20) / 100_100));
  });
});
