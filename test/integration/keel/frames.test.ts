/** keel cuts what comes in into whole frames, whatever the pieces, and gives everything else to nobody. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeFrame, FieldReader } from '../../../src/daemon/frames.ts';
import {
  ConnectionKind,
  FromClient,
  FromKeel,
  MAX_FRAME,
  ToClient,
  ToKeel,
} from '../../../src/daemon/wire.ts';
import { type Build, builds, Harbour, type Link, until } from './harness.ts';

function ttrpc(stream: number, type: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(10);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt32BE(stream, 4);
  header.writeUInt8(type, 8);
  return Buffer.concat([header, payload]);
}

/** Id, kind and listener of the next connection. */
async function opened(link: Link): Promise<{ id: bigint; kind: number; pid: number; listener: bigint }> {
  const frame = await link.inbox.take(FromKeel.CONN_OPEN);
  const fields = new FieldReader(frame.payload);
  const kind = fields.u8();
  const pid = fields.u32();
  fields.u32();
  fields.u32();
  return { id: frame.id, kind, pid, listener: fields.u64() };
}

for (const which of Object.keys(builds) as Build[]) {
  test(`a client's frames arrive whole, byte by byte or together (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const { socket, received } = await harbour.connect();
    const connection = await opened(link);
    assert.equal(connection.kind, ConnectionKind.CLIENT);
    assert.equal(connection.pid, process.pid);
    await until('greeting', () => received().length > 0);
    assert.equal(received().readUInt16LE(4), ToClient.HELLO);

    const first = encodeFrame(FromClient.STDIN, 0n, Buffer.from('abc'));
    const second = encodeFrame(FromClient.STDIN, 0n);
    for (const byte of Buffer.concat([first, second])) {
      socket.write(Buffer.of(byte));
      await new Promise((wake) => setImmediate(wake));
    }
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, first);
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, second);

    const large = encodeFrame(FromClient.STDIN, 0n, Buffer.alloc(3_000_000, 7));
    socket.write(Buffer.concat([second, large, first]));
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, second);
    assert.ok((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload.equals(large));
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, first);

    const answer = Buffer.alloc(2_000_000, 'x');
    const before = received().length;
    link.send(ToKeel.CONN_DATA, connection.id, answer);
    await until('the whole answer', () => received().length === before + answer.length);
    assert.ok(received().subarray(before).equals(answer));

    link.send(ToKeel.CONN_DATA, connection.id, Buffer.from('last'));
    link.send(ToKeel.CONN_CLOSE, connection.id);
    await until('the end', () => socket.readableEnded);
    assert.equal(received().subarray(-4).toString(), 'last');
  });

  test(`a client's frame over the limit closes its connection only (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const { socket } = await harbour.connect();
    const connection = await opened(link);
    const header = encodeFrame(FromClient.STDIN, 0n);
    header.writeUInt32LE(MAX_FRAME - 15, 0);
    socket.write(header);
    await link.inbox.take(FromKeel.CONN_CLOSE, connection.id);
    await until('the end', () => socket.closed);
    const { socket: other } = await harbour.connect();
    await opened(link);
    other.destroy();
  });

  test(`ttrpc: frames whole, unknown types dropped, 4 MiB is the limit (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const path = `${harbour.folder}/deep/er/s.sock`;
    assert.equal((await link.listen(77n, path)).result, 0);
    assert.equal((await link.listen(77n, path)).result, 0, 'the same order again is no error');
    assert.equal(
      (await link.listen(78n, `${harbour.runDir}/keel.sock`)).result,
      -98,
      'a live socket is in use',
    );
    assert.equal(
      (await link.listen(78n, path)).result,
      0,
      'of a wherryd that could not write down the first id',
    );
    const { socket, received } = await harbour.connect(path);
    const connection = await opened(link);
    assert.equal(connection.kind, ConnectionKind.TTRPC);
    assert.equal(connection.listener, 78n);

    const request = ttrpc(1, 1, Buffer.from('hello'));
    for (const byte of Buffer.concat([ttrpc(3, 9, Buffer.from('unknown')), request])) {
      socket.write(Buffer.of(byte));
      await new Promise((wake) => setImmediate(wake));
    }
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, request);

    const largest = ttrpc(5, 1, Buffer.alloc(4 << 20, 1));
    const tooLarge = ttrpc(7, 1, Buffer.alloc((4 << 20) + 1, 2));
    const after = ttrpc(9, 1, Buffer.from('after'));
    socket.write(Buffer.concat([largest, tooLarge, after]));
    assert.ok((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload.equals(largest));
    assert.deepEqual((await link.inbox.take(FromKeel.CONN_DATA, connection.id)).payload, after);
    const answer = received();
    assert.equal(answer.readUInt32BE(0), answer.length - 10);
    assert.equal(answer.readUInt32BE(4), 7, 'on the stream of the frame');
    assert.equal(answer.readUInt8(8), 2, 'a response');
    assert.deepEqual(
      [...answer.subarray(10, 15)],
      [10, answer.length - 12, 8, 8, 18],
      'Response{Status{code 8, message}}',
    );
    assert.match(answer.toString('latin1'), /over the limit of 4194304 bytes$/);

    socket.destroy();
    await link.inbox.take(FromKeel.CONN_CLOSE, connection.id);
    const { body } = await link.order(ToKeel.UNLISTEN, Buffer.from([78, 0, 0, 0, 0, 0, 0, 0]));
    void body;
    await assert.rejects(harbour.connect(path), { code: 'ENOENT' });
  });

  test(`a peer that reads nothing is closed at 64 MiB, the others go on (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const { socket } = await harbour.connect();
    socket.pause();
    const connection = await opened(link);
    const piece = Buffer.alloc(4 << 20, 1);
    for (let sent = 0; sent < 18; sent++) link.send(ToKeel.CONN_DATA, connection.id, piece);
    await link.inbox.take(FromKeel.CONN_CLOSE, connection.id);
    assert.match(harbour.log, /its peer reads nothing/);
    assert.equal((await link.status()).connections, 0);
    socket.destroy();
  });
}
