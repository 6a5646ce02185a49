/** keel's memory under peers that ask and never listen; and a wherryd that no longer answers. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { str } from '../../../src/daemon/frames.ts';
import { FromKeel, ToKeel } from '../../../src/daemon/wire.ts';
import { Harbour, until } from '../keel/harness.ts';

const MIB = 1 << 20;
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

const residentMib = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;

test('a connection with 16 MiB of unanswered requests is not read on until some are answered', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const keel = harbour.keel!.pid!;
  const path = `${harbour.folder}/t.sock`;
  assert.equal((await link.listen(5n, path)).result, 0);
  const { socket } = await harbour.connect(path);
  const { id } = await link.inbox.take(FromKeel.CONN_OPEN);
  const asked: number[] = [];
  // What keel passes on is not kept here either.
  link.onFrame = ({ type, payload }) => {
    if (type === FromKeel.CONN_DATA) asked.push(payload.readUInt32BE(4));
    return type === FromKeel.CONN_DATA;
  };
  const all = 100;
  for (let call = 0; call < all; call++) socket.write(ttrpc(2 * call + 1, REQUEST, Buffer.alloc(MIB, 0x0a)));
  await until('16 MiB were asked', () => asked.length >= 16 || undefined);
  const sent = socket.bytesWritten;
  for (let turn = 0; turn < 20; turn++) await link.status();
  assert.ok(asked.length <= 17, `${asked.length} calls were read`);
  assert.ok(residentMib(keel) < 64, `${residentMib(keel)} MiB`);
  assert.equal(socket.bytesWritten, sent, 'the peer is held up');
  // Each answer makes room for the next.
  for (let answered = 0; answered < all; answered++) {
    await until(`call ${answered} comes`, () => asked.length > answered || undefined);
    link.send(ToKeel.CONN_DATA, id, ttrpc(asked[answered]!, RESPONSE, Buffer.alloc(0)));
  }
  await link.status();
  assert.deepEqual(
    asked,
    Array.from({ length: all }, (_value, call) => 2 * call + 1),
  );
  assert.ok(residentMib(keel) < 64, `${residentMib(keel)} MiB`);
  assert.equal(socket.closed, false);
});

test('a wherryd that stands still is killed, and the next gets its calls', { timeout: 180_000 }, async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  const path = `${harbour.folder}/t.sock`;
  assert.equal((await link.listen(5n, path)).result, 0);
  const { socket } = await harbour.connect(path);
  const { id } = await link.inbox.take(FromKeel.CONN_OPEN);
  // A process that is stopped and one whose event loop turns for ever look the same from outside: no PING is answered.
  const frame = ttrpc(1, REQUEST, Buffer.from([0x12, 4, ...Buffer.from('Wait')]));
  socket.write(frame);
  await link.inbox.take(FromKeel.CONN_DATA, id);
  const stopped = harbour.started().pid;
  process.kill(stopped, 'SIGSTOP');
  const deadline = performance.now() + 120_000;
  for (let next = undefined; next === undefined; ) {
    assert.ok(performance.now() < deadline, 'it was not replaced');
    next = await harbour.wherryd(false).catch(() => undefined);
    if (next === undefined) continue;
    next.send(ToKeel.READY, 0n, str('next'));
    assert.deepEqual((await next.inbox.take(FromKeel.CONN_DATA, id)).payload, frame);
    assert.notEqual(harbour.started().pid, stopped);
  }
  assert.match(harbour.log, /wherryd does not answer: killed/);
  assert.equal(socket.closed, false);
});
