/** Connections and calls outlive wherryd: keel keeps them, tells the next wherryd, and does one-time acts once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { str, u32, u64 } from '../../../src/daemon/frames.ts';
import { FromKeel, ToKeel } from '../../../src/daemon/wire.ts';
import { alive, Harbour, type Link, until } from '../keel/harness.ts';
import { initTape } from '../keel/tapes.ts';

const REQUEST = 1;
const RESPONSE = 2;

function ttrpc(stream: number, type: number, body: Uint8Array): Buffer {
  const frame = Buffer.alloc(10 + body.length);
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(stream, 4);
  frame.writeUInt8(type, 8);
  frame.set(body, 10);
  return frame;
}

/** ttrpc's Request: service, method, timeout in nanoseconds (0: none). */
function request(method: string, timeout = 0n): Buffer {
  const text = (field: number, value: string): number[] => [
    (field << 3) | 2,
    value.length,
    ...Buffer.from(value),
  ];
  const varint: number[] = [];
  for (let left = timeout; left > 0n; left >>= 7n)
    varint.push(Number(left & 0x7fn) | (left > 0x7fn ? 0x80 : 0));
  return Buffer.from([...text(1, 'Task'), ...text(2, method), ...(timeout > 0n ? [4 << 3, ...varint] : [])]);
}

/** A connection to a ttrpc listener, as wherryd knows it. */
async function connected(harbour: Harbour, link: Link) {
  const path = `${harbour.folder}/t.sock`;
  assert.equal((await link.listen(5n, path)).result, 0);
  const peer = await harbour.connect(path);
  const { id } = await link.inbox.take(FromKeel.CONN_OPEN);
  return { ...peer, id };
}

async function next(harbour: Harbour): Promise<Link> {
  process.kill(harbour.started().pid, 'SIGKILL');
  return harbour.wherryd();
}

test('what was not answered is asked again, in order; what was answered is not', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const { socket, id } = await connected(harbour, link);
  const frames = [1, 3, 5].map((stream) => ttrpc(stream, REQUEST, request('Wait')));
  for (const frame of frames) socket.write(frame);
  for (const frame of frames) {
    const { payload } = await link.inbox.take(FromKeel.CONN_DATA, id);
    assert.deepEqual(payload, frame);
  }
  link.send(ToKeel.CONN_DATA, id, ttrpc(3, RESPONSE, Buffer.alloc(0)));
  await link.status();
  const second = await next(harbour);
  const open = await second.inbox.take(FromKeel.CONN_OPEN, id);
  assert.equal(open.payload.readBigUInt64LE(13), 5n, 'the listener');
  assert.deepEqual((await second.inbox.take(FromKeel.CONN_DATA, id)).payload, frames[0]);
  assert.deepEqual((await second.inbox.take(FromKeel.CONN_DATA, id)).payload, frames[2]);
  await second.status();
  assert.equal(second.inbox.takeNow(FromKeel.CONN_DATA, id), undefined);
  assert.equal(socket.closed, false);
});

test('calls whose callers have given up, and those of closed connections, are not asked again', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const { socket, id } = await connected(harbour, link);
  const late = ttrpc(1, REQUEST, request('Kill', 1_000_000n));
  const waiting = ttrpc(3, REQUEST, request('Kill', 3_600_000_000_000n));
  socket.write(Buffer.concat([late, waiting]));
  await link.inbox.take(FromKeel.CONN_DATA, id);
  const other = await harbour.connect(`${harbour.folder}/t.sock`);
  const gone = await link.inbox.take(FromKeel.CONN_OPEN);
  other.socket.write(ttrpc(1, REQUEST, request('Wait')));
  await link.inbox.take(FromKeel.CONN_DATA, gone.id);
  other.socket.destroy();
  await link.inbox.take(FromKeel.CONN_CLOSE, gone.id);
  const second = await next(harbour);
  await second.inbox.take(FromKeel.CONN_OPEN, id);
  assert.deepEqual((await second.inbox.take(FromKeel.CONN_DATA, id)).payload, waiting);
  await second.status();
  assert.equal(second.inbox.takeNow(FromKeel.CONN_DATA), undefined);
  assert.equal(second.inbox.takeNow(FromKeel.CONN_OPEN), undefined);
});

test('the signal of a call is sent once, whoever orders it again', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const { socket, id } = await connected(harbour, link);
  const count = `${harbour.folder}/count`;
  const script = `trap 'echo x >> ${count}' USR1; echo > ${count}; while :; do sleep 0.02; done`;
  link.spawn(9n, initTape(9n, { args: ['/bin/sh', '-c', script], env: ['PATH=/usr/bin:/bin'] }));
  await link.registered(9n);
  const { existsSync, readFileSync } = await import('node:fs');
  await until('the trap is set', () => existsSync(count));
  socket.write(ttrpc(7, REQUEST, request('Kill')));
  await link.inbox.take(FromKeel.CONN_DATA, id);
  const signals = (): number => readFileSync(count, 'latin1').split('x').length - 1;
  assert.equal((await link.order(ToKeel.SIGNAL, u64(9n), u32(10), u64(id), u32(7))).result, 0);
  await until('the signal arrives', () => signals() === 1);
  const second = await next(harbour);
  assert.equal((await second.order(ToKeel.SIGNAL, u64(9n), u32(10), u64(id), u32(7))).result, 0);
  assert.equal(
    (await second.order(ToKeel.SIGNAL, u64(9n), u32(10), u64(id), u32(9))).result,
    0,
    'another call',
  );
  await until('the other signal arrives', () => signals() > 1);
  assert.equal(signals(), 2);
  await second.order(ToKeel.SIGNAL, u64(9n), u32(9));
  await second.exited(9n);
});

test('a process of an earlier keel is taken up by pid and start time, a stranger with its pid is not', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  link.spawn(1n, initTape(1n));
  const init = await link.registered(1n);
  const wrong = await link.order(ToKeel.ADOPT, u64(2n), u32(init.pid), u64(init.startTime + 1n));
  assert.equal(wrong.result, -3);
  const right = await link.order(ToKeel.ADOPT, u64(3n), u32(init.pid), u64(init.startTime));
  assert.equal(right.result, 0);
  assert.deepEqual(await link.registered(3n), init);
  assert.equal((await link.order(ToKeel.SIGNAL, u64(3n), u32(9))).result, 0);
  await until('it ends', () => !alive(init.pid));
});

test('callers hear of a wherryd that does not come up', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const { socket, received, id } = await connected(harbour, link);
  link.spawn(1n, initTape(1n));
  await link.registered(1n);
  socket.write(ttrpc(1, REQUEST, request('State')));
  socket.write(ttrpc(3, REQUEST, request('Wait')));
  await link.inbox.take(FromKeel.CONN_DATA, id);
  process.kill(harbour.started().pid, 'SIGKILL');
  for (let starts = 0; starts < 2; starts++) {
    await harbour.wherryd(false);
    process.kill(harbour.started().pid, 'SIGKILL');
  }
  await until('an answer', () => received().length > 0);
  assert.equal(received().readUInt32BE(4), 1);
  assert.deepEqual([...received().subarray(12, 14)], [8, 14], 'code 14');
  const last = await harbour.wherryd();
  await last.inbox.take(FromKeel.CONN_OPEN, id);
  assert.equal((await last.inbox.take(FromKeel.CONN_DATA, id)).payload.readUInt32BE(4), 3, 'Wait has waited');
  assert.equal((await last.order(ToKeel.SIGNAL, u64(1n), u32(9))).result, 0);
  await last.exited(1n);
});

test('a play is cancelled with what it has registered', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  link.spawn(4n, initTape(4n));
  const init = await link.registered(4n);
  assert.equal((await link.order(ToKeel.CANCEL, u64(4n))).result, 0);
  await link.exited(4n);
  assert.equal(alive(init.pid), false);
  assert.equal((await link.order(ToKeel.CANCEL, u64(99n))).result, 0, 'of nothing');
  link.send(ToKeel.READY, 0n, str('again'));
});
