/**
 * Wherry's shim beside containerd's own, in the same scenario, called in the same way: events, answers of State, Wait, Delete and Pids, the
 * type and shape of Stats, error codes, the output of `delete`, files in the bundle. And each deletes what the other has made.
 */
import assert from 'node:assert/strict';
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client, type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js';
import * as events from '../../../shim/gen/containerd/events/task.ts';
import { Envelope } from '../../../shim/gen/containerd/services/events/ttrpc/v1/events.ts';
import { DeleteResponse, StatsResponse } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Metrics as MetricsV1 } from '../../../shim/gen/io/containerd/cgroups/v1/metrics.ts';
import { Metrics as MetricsV2 } from '../../../shim/gen/io/containerd/cgroups/v2/metrics.ts';
import type { Codec } from '../../../shim/ttrpc/service.ts';
import { allCgroups, mounts, removeCgroup } from '../../support/cgroups.ts';
import { Containerd } from '../../support/containerd.ts';
import { containerdVersions } from '../../support/debs.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, must } from '../../support/run.ts';
import { type Method, RpcError, responseCodec, ShimCaller } from '../../support/shim-caller.ts';
import { allowedDifferences } from './allowed-differences.ts';
import { processOf } from './life.ts';
import { optionsAny } from './start.ts';

/** Places of the scenario and what was seen there. */
type Recording = Record<string, unknown>;

/** Every event of containerd, as bytes. */
class EventStream implements Disposable {
  readonly seen: Envelope[] = [];
  readonly #client: Client;
  readonly #stream: ClientReadableStream<Envelope>;

  constructor(address: string) {
    this.#client = new Client(`unix:${address}`, credentials.createInsecure());
    this.#stream = this.#client.makeServerStreamRequest(
      '/containerd.services.events.v1.Events/Subscribe',
      (message: Buffer) => message,
      (bytes: Buffer) => Envelope.decode(bytes),
      Buffer.alloc(0),
      new Metadata(),
    );
    this.#stream.on('data', (envelope: Envelope) => this.seen.push(envelope));
    this.#stream.on('error', () => undefined);
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
    this.#client.close();
  }
}

for (const version of containerdVersions)
  describe(`beside the shim of containerd ${version}`, () => {
    let containerd: Containerd;
    let stream: EventStream;
    let ours: ShimCaller;
    let theirs: ShimCaller;
    before(async () => {
      containerd = await Containerd.start(version);
      stream = new EventStream(containerd.address);
      ours = await new ShimCaller(containerd).subscribed();
      theirs = new ShimCaller(containerd, {
        binary: join(containerd.ctrPath, '../containerd-shim-runc-v2'),
        service: version === '2.1' ? 'containerd.task.v3.Task' : 'containerd.task.v2.Task',
      });
    });
    after(async () => {
      stream?.[Symbol.dispose]();
      await theirs?.[Symbol.asyncDispose]();
      await ours?.[Symbol.asyncDispose]();
      await containerd?.stop();
    });

    test('41. events, answers, error codes, delete output and files are those of containerd-shim-runc-v2', async () => {
      const expected = await scenario(theirs, stream);
      const actual = await scenario(ours, stream);
      const used = new Set<number>();
      const differences: string[] = [];
      for (const place of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
        try {
          assert.deepEqual(actual[place], expected[place]);
        } catch {
          const index = allowedDifferences.findIndex((one) => one.place.test(place));
          if (index >= 0) used.add(index);
          else
            differences.push(
              `${place}\n  theirs ${JSON.stringify(expected[place])}\n  ours   ${JSON.stringify(actual[place])}`,
            );
        }
      }
      assert.deepEqual(differences.join('\n'), '');
    });

    test("12. delete of a bundle that Go's shim wrote works, and Go's delete on ours", async () => {
      const goes = await theirs.make('go', ['/bin/sleep', '1000']);
      const { pid } = await goes.client.call('State', { id: goes.id });
      const shim = (await goes.client.call('Connect', { id: goes.id })).shimPid;
      process.kill(shim, 'SIGKILL');
      await eventually('the shim is dead', () => !existsSync(`/proc/${shim}/exe`) || undefined);
      assert.ok(existsSync(`/proc/${pid}`));
      const before = ours.folder;
      assert.notEqual(before, theirs.folder);
      const { code, stdout, stderr } = await ours.deleteIn(theirs.folder, goes.id);
      assert.deepEqual([code, stderr], [0, '']);
      const answer = DeleteResponse.decode(Buffer.from(stdout, 'latin1'));
      assert.deepEqual([answer.pid, answer.exitStatus], [pid, 137]);
      await eventually('its process goes', () => !existsSync(`/proc/${pid}`) || undefined);
      assert.deepEqual(
        [...mounts(), ...allCgroups()].filter((path) => path.includes(goes.id)),
        [],
      );
      assert.ok(!existsSync(join('/run/containerd/runc', theirs.namespace, goes.id)));

      const own = await ours.make('own', ['/bin/true']);
      await own.client.call('Wait', { id: own.id });
      const state = await own.client.call('State', { id: own.id });
      const go = await theirs.deleteIn(ours.folder, own.id);
      assert.equal(go.code, 0, go.stderr);
      assert.equal(DeleteResponse.decode(Buffer.from(go.stdout, 'latin1')).pid, state.pid);
      await ours.remove(own);
    });
  });

async function scenario(caller: ShimCaller, stream: EventStream): Promise<Recording> {
  const found: Recording = {};
  const id = uniqueId('same');
  const bundle = await caller.bundle(
    id,
    ['/bin/sh', '-c', 'trap "exit 3" TERM; sleep 1000 & echo ready; wait'],
    (config) => {
      config.linux.resources = { memory: { limit: 64 << 20 }, pids: { limit: 50 } };
    },
  );
  const stdout = join(caller.folder, `${id}.out`);
  await must('mkfifo', [stdout]);
  // Go's shim waits 30 s for a reader.
  const reader = openSync(stdout, constants.O_RDWR | constants.O_NONBLOCK);
  const started = await caller.execute(id, 'start');
  found['start'] = [started.code, started.stderr];
  using client = await caller.connect(addressIn(started.stdout));
  const pids = new Map<number, string>();
  const known = (value: unknown): unknown => normalised(value, { id, folder: caller.folder, pids });
  const ask = async (place: string, method: Method, request: object): Promise<void> => {
    try {
      const bytes = await client.raw(method, { id, ...request });
      const codec = responseCodec(method);
      const message = codec.decode(bytes);
      found[`${place}: bytes`] = isCanonical(codec, bytes);
      if (
        typeof message === 'object' &&
        message !== null &&
        'pid' in message &&
        typeof message.pid === 'number' &&
        message.pid > 0
      )
        pids.set(message.pid, pids.get(message.pid) ?? `pid ${pids.size}`);
      found[place] = known(message);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      found[`${place}: code`] = error.code;
      found[`${place}: message`] = known(error.message);
    }
  };
  const rootfs: object[] = [];
  const options = optionsAny({});
  await ask('state of nothing', 'State', {});
  await ask('create', 'Create', { bundle, rootfs, stdout, stderr: stdout, options });
  if (found['create: message'] !== undefined) {
    await client.call('Shutdown', { id }).catch(() => undefined);
    throw new Error(String(found['create: message']));
  }
  await ask('create again', 'Create', { bundle, rootfs, stdout, stderr: stdout, options });
  await ask('created', 'State', {});
  await ask('exec of nothing', 'Start', { execId: 'none' });
  await ask('start', 'Start', {});
  await ask('start again', 'Start', {});
  const said = Buffer.alloc(16);
  await eventually('it is ready', () => readSync(reader, said) || undefined);
  await ask('running', 'State', {});
  await ask('pids', 'Pids', {});
  // In whatever order the kernel has them.
  const { processes } = found['pids'] as { processes: { pid: string }[] };
  processes.sort((a, b) => b.pid.localeCompare(a.pid));
  await ask('exec', 'Exec', { execId: 'e1', spec: processOf('/bin/sh', '-c', 'exit 4') });
  await ask('exec again', 'Exec', { execId: 'e1', spec: processOf('/bin/true') });
  await ask('exec added', 'State', { execId: 'e1' });
  await ask('kill exec early', 'Kill', { execId: 'e1', signal: 9 });
  await ask('exec start', 'Start', { execId: 'e1' });
  await ask('exec wait', 'Wait', { execId: 'e1' });
  await ask('exec ended', 'State', { execId: 'e1' });
  await ask('kill ended exec', 'Kill', { execId: 'e1', signal: 9 });
  await ask('exec delete', 'Delete', { execId: 'e1' });
  await ask('exec gone', 'State', { execId: 'e1' });
  await ask('bad exec', 'Exec', { execId: 'e2', spec: processOf('/no/such') });
  await ask('bad exec start', 'Start', { execId: 'e2' });
  await ask('bad exec state', 'State', { execId: 'e2' });
  await ask('bad exec delete', 'Delete', { execId: 'e2' });
  await ask('resize without terminal', 'ResizePty', { width: 10, height: 10 });
  await ask('close of no stdin', 'CloseIO', { stdin: true });
  await ask('pause', 'Pause', {});
  await ask('paused', 'State', {});
  await ask('resume', 'Resume', {});
  const stats = StatsResponse.decode(await client.raw('Stats', { id })).stats;
  found['stats type'] = stats?.typeUrl;
  const metrics = stats?.typeUrl.includes('.v1.') ? MetricsV1 : MetricsV2;
  found['stats shape'] = shape(metrics.decode(stats?.value ?? Buffer.alloc(0)));
  await ask('delete running', 'Delete', {});
  await ask('kill', 'Kill', { signal: 15 });
  await ask('wait', 'Wait', {});
  await ask('stopped', 'State', {});
  await ask('kill stopped', 'Kill', { signal: 9 });
  await ask('exec in stopped', 'Exec', { execId: 'e3', spec: processOf('/bin/true') });
  found['files'] = readdirSync(bundle)
    .filter((name) => name !== 'log.json')
    .toSorted();
  for (const name of ['runtime', 'options.json', 'init.pid'])
    found[`file ${name}`] = known(readFileSync(join(bundle, name), 'utf8'));
  await ask('delete', 'Delete', {});
  await ask('deleted', 'State', {});
  const own = () => stream.seen.filter(({ event }) => event?.value.includes(id));
  // Before the shutdown: containerd's own shim may end before it has told its last event.
  await eventually('the last event', () => own().some(({ topic }) => topic === '/tasks/delete') || undefined);
  await ask('shutdown', 'Shutdown', {});
  const deletion = await caller.delete(id);
  found['delete output'] = [
    deletion.code,
    deletion.stderr,
    known(DeleteResponse.decode(Buffer.from(deletion.stdout, 'latin1'))),
  ];
  found['event topics'] = own().map(({ topic }) => topic);
  own().forEach(({ topic, event, namespace }, index) => {
    const name = (event?.typeUrl ?? '').replace('containerd.events.', '');
    const codec = new Map(Object.entries(events)).get(name) as unknown as Codec<unknown>;
    const message = codec.decode(event?.value ?? Buffer.alloc(0));
    const place = `event ${index} ${topic}`;
    found[`${place}: type`] = event?.typeUrl;
    found[`${place}: namespace`] = namespace === caller.namespace;
    found[`${place}: bytes`] = isCanonical(codec, event?.value ?? Buffer.alloc(0));
    found[place] = known(message);
  });
  closeSync(reader);
  removeCgroup(caller.namespace);
  return found;
}

function addressIn(answer: string): string {
  const text = answer.trim();
  const address = text.startsWith('{') ? String((JSON.parse(text) as { address: string }).address) : text;
  return address.replace('unix://', '');
}

/**
 * What is decoded and encoded again is what came: nothing unknown, nothing in another order. A time is cut to milliseconds by that, so
 * bytes that hold one are compared as a message only.
 */
function isCanonical(codec: Codec<unknown>, bytes: Buffer): boolean {
  const message = codec.decode(bytes);
  return Buffer.from(codec.encode(message).finish()).equals(bytes) || holdsTime(message);
}

function holdsTime(message: unknown): boolean {
  return (
    typeof message === 'object' &&
    message !== null &&
    Object.values(message).some((value) => value instanceof Date && value.getTime() > 0)
  );
}

/** pids by the order of their appearance; times only by whether there is one; paths without the folder of the run. */
function normalised(
  value: unknown,
  run: { id: string; folder: string; pids: ReadonlyMap<number, string> },
  key = '',
): unknown {
  if (typeof value === 'number')
    return /pid/i.test(key) && value > 0 ? (run.pids.get(value) ?? 'another pid') : value;
  if (typeof value === 'string') {
    let text = value.replaceAll(run.folder, 'FOLDER').replaceAll(run.id, 'ID');
    for (const [pid, name] of run.pids) text = text.replaceAll(new RegExp(`\\b${pid}\\b`, 'g'), name);
    return text;
  }
  if (value instanceof Date) return value.getTime() === -62_135_596_800_000 ? 'never' : 'a time';
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map((one) => normalised(one, run, key));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, normalised(one, run, name)]));
  }
  return value;
}

/** Which fields there are; of lists what names their entries. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map((one: Record<string, unknown>) =>
      typeof one === 'object' ? [one['op'], one['device'], one['pagesize']] : typeof one,
    );
  }
  if (typeof value === 'object' && value !== null && !Buffer.isBuffer(value))
    return Object.fromEntries(
      // Whether a container has read anything from a disk is a matter of the page cache.
      Object.entries(value).map(([name, one]) => [
        name,
        shape(/^(io|sectors)\w*Recursive$/.test(name) ? [] : one),
      ]),
    );
  return typeof value;
}
