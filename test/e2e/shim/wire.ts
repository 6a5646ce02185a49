/** Behaviours 16 to 22: ttrpc as containerd's client speaks it, and as it must not. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  BootstrapParams,
  BootstrapResult,
} from '../../../shim/gen/containerd/runtime/bootstrap/v1/bootstrap.ts';
import { ConnectRequest, StateRequest } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Request, Response } from '../../../shim/gen/ttrpc/ttrpc.ts';
import { encodeFrame, type Frame, FrameCutter, FrameType } from '../../../shim/ttrpc/frame.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, run } from '../../support/run.ts';
import type { Made } from '../../support/shim-caller.ts';
import type { World } from './world.ts';

const V2 = 'containerd.task.v2.Task';
const invalidArgument = 3;
const deadlineExceeded = 4;
const resourceExhausted = 8;
const unimplemented = 12;

/** Frames in and out, as they are. */
class Wire implements Disposable {
  readonly answers: Frame[] = [];
  readonly socket: Socket;

  constructor(path: string) {
    this.socket = connect(path);
    const take = (frame: Frame) => void this.answers.push({ ...frame, payload: Buffer.from(frame.payload) });
    const cutter = new FrameCutter(take, take);
    this.socket.on('data', (chunk: Buffer) => cutter.push(chunk));
    this.socket.on('error', () => undefined);
  }

  request(streamId: number, method: string, payload: Uint8Array, more: Partial<Request> = {}): void {
    const request = Request.fromPartial({ service: V2, method, payload: Buffer.from(payload), ...more });
    this.socket.write(encodeFrame(streamId, FrameType.REQUEST, 0, Request.encode(request).finish()));
  }

  /** The status code of the answer to a stream; 0: OK. */
  async code(streamId: number): Promise<number> {
    const frame = await eventually(`an answer on stream ${streamId}`, () =>
      this.answers.find((one) => one.streamId === streamId),
    );
    return Response.decode(frame.payload).status?.code ?? 0;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export function wireBehaviours(world: World): void {
  // What the socket of another protocol does is grpc-js's.
  if (world.grpc) return;
  const made = async (name: string): Promise<Made & { path: string }> => {
    const one = await world.caller.make(name, ['/bin/sleep', '1000']);
    // The group lives, so this is a look at its address.
    return { ...one, path: await world.caller.start(one.id) };
  };

  test('16. replies come in any order: 100 Waits hang, and State is answered', async () => {
    const one = await made('waits');
    using wire = new Wire(one.path);
    const request = StateRequest.encode(StateRequest.fromPartial({ id: one.id })).finish();
    const waits = Array.from({ length: 100 }, (_, index) => 2 * index + 1);
    for (const stream of waits) wire.request(stream, 'Wait', request);
    wire.request(201, 'State', request);
    assert.equal(await wire.code(201), 0);
    assert.equal(wire.answers.length, 1);
    await one.client.call('Kill', { id: one.id, signal: 9 });
    for (const stream of waits) assert.equal(await wire.code(stream), 0);
    assert.equal(wire.answers.length, 101);
    await world.caller.remove(one);
  });

  test('17. a frame over 4 MiB is answered with code 8, and the connection survives', async () => {
    const one = await made('oversized');
    using wire = new Wire(one.path);
    const header = encodeFrame(1, FrameType.REQUEST, 0, Buffer.alloc(0));
    header.writeUInt32BE((4 << 20) + 1, 0);
    wire.socket.write(header);
    wire.socket.write(Buffer.alloc((4 << 20) + 1));
    assert.equal(await wire.code(1), resourceExhausted);
    wire.request(3, 'Connect', ConnectRequest.encode({ id: one.id }).finish());
    assert.equal(await wire.code(3), 0);
    await world.caller.remove(one);
  });

  test('18. an even or repeated stream id is answered with code 3', async () => {
    const one = await made('streams');
    using wire = new Wire(one.path);
    const payload = ConnectRequest.encode({ id: one.id }).finish();
    wire.request(2, 'Connect', payload);
    assert.equal(await wire.code(2), invalidArgument);
    wire.request(5, 'Connect', payload);
    assert.equal(await wire.code(5), 0);
    for (const stream of [5, 3]) {
      wire.answers.length = 0;
      wire.request(stream, 'Connect', payload);
      assert.equal(await wire.code(stream), invalidArgument, `stream ${stream}`);
    }
    // a type of the future, and an answer that nobody asked for, are passed over
    wire.socket.write(encodeFrame(7, 9, 0, Buffer.from('?')));
    wire.socket.write(encodeFrame(7, FrameType.RESPONSE, 0, Buffer.alloc(0)));
    wire.request(9, 'Connect', payload);
    assert.equal(await wire.code(9), 0);
    await world.caller.remove(one);
  });

  test('19. an unknown service or method is answered with code 12', async () => {
    const one = await made('unknown');
    using wire = new Wire(one.path);
    wire.request(1, 'Fly', Buffer.alloc(0));
    wire.request(3, 'State', Buffer.alloc(0), { service: 'containerd.task.v9.Task' });
    assert.equal(await wire.code(1), unimplemented);
    assert.equal(await wire.code(3), unimplemented);
    await world.caller.remove(one);
  });

  test('20. at the end of timeout_nano the call is answered with code 4 and forgotten', async () => {
    const one = await made('timeout');
    using wire = new Wire(one.path);
    const request = StateRequest.encode(StateRequest.fromPartial({ id: one.id })).finish();
    wire.request(1, 'Wait', request, { timeoutNano: 50_000_000n });
    assert.equal(await wire.code(1), deadlineExceeded);
    await one.client.call('Kill', { id: one.id, signal: 9 });
    await one.client.call('Wait', { id: one.id });
    wire.request(3, 'State', request);
    assert.equal(await wire.code(3), 0);
    assert.equal(wire.answers.length, 2, 'no second answer to the first call');
    await world.caller.remove(one);
  });

  test('21. a peer with another uid is refused', async () => {
    const id = uniqueId('uid');
    await world.caller.bundle(id, ['/bin/true']);
    const socketDir = join('/tmp', `${uniqueId('s')}`);
    const stdin = BootstrapParams.encode(
      BootstrapParams.fromPartial({ instanceId: id, namespace: world.caller.namespace, socketDir }),
    ).finish();
    const { stdout } = await world.caller.execute(id, 'start', { stdin });
    const path = BootstrapResult.decode(Buffer.from(stdout, 'latin1')).address.replace('unix://', '');
    // The modes alone would keep it away: they are taken away here.
    chmodSync(socketDir, 0o755);
    chmodSync(path, 0o777);
    const ask = async (uid: number) => {
      const script = `const s = require('net').connect(${JSON.stringify(path)});
        s.on('connect', () => s.write(Buffer.from(process.argv[1], 'hex')));
        s.on('data', () => { console.log('answered'); s.destroy() });
        s.on('close', () => console.log('closed')); s.on('error', () => {})`;
      const request = Request.encode(
        Request.fromPartial({
          service: V2,
          method: 'Connect',
          payload: Buffer.from(ConnectRequest.encode({ id }).finish()),
        }),
      ).finish();
      const frame = encodeFrame(1, FrameType.REQUEST, 0, request).toString('hex');
      const { stdout: said } = await run('setpriv', [
        ...[`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'],
        ...[process.execPath, '-e', script, frame],
      ]);
      return said.trim().split('\n');
    };
    assert.deepEqual(await ask(0), ['answered', 'closed']);
    assert.deepEqual(await ask(65534), ['closed']);
    using client = await world.caller.connect(path);
    await client.call('Shutdown', { id });
    await world.caller.delete(id);
    await eventually(
      'the socket goes',
      async () => (await run('rmdir', [socketDir])).code === 0 || undefined,
    );
  });

  test('22. the names of v2 and v3 both work on one socket', async () => {
    const one = await made('names');
    for (const service of [V2, 'containerd.task.v3.Task']) {
      using client = await world.caller.connect(one.path, service);
      assert.equal((await client.call('State', { id: one.id })).id, one.id);
    }
    await world.caller.remove(one);
  });
}
