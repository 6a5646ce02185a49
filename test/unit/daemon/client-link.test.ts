import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClientLink } from '../../../src/daemon/client-link.ts';
import { FrameReader } from '../../../src/daemon/frames.ts';
import { ToClient } from '../../../src/daemon/wire.ts';

function link(): { client: ClientLink; sent: Uint8Array[] } {
  const sent: Uint8Array[] = [];
  const client = new ClientLink(
    { pid: 1, uid: 0, gid: 0 },
    (bytes) => sent.push(bytes),
    () => {},
  );
  return { client, sent };
}

test('last words and exit go out together, so that a command begun anew does not repeat the half of them', async () => {
  const { client, sent } = link();
  client.out(1, 'address');
  client.exit(0);
  assert.equal(sent.length, 0);
  await Promise.resolve();
  assert.equal(sent.length, 1);
  const types: number[] = [];
  new FrameReader(({ type }) => types.push(type)).push(Buffer.from(sent[0]!));
  assert.deepEqual(types, [ToClient.OUT, ToClient.EXIT]);
});

test('output of megabytes goes out in several frames, in order', async () => {
  const { client, sent } = link();
  for (const letter of ['a', 'b', 'c']) client.out(1, letter.repeat(600_000));
  client.exit(3);
  await Promise.resolve();
  assert.ok(sent.length > 1);
  assert.ok(sent.every(({ length }) => length < 2_000_000));
  let text = '';
  const reader = new FrameReader(({ type, payload }) => {
    text += type === ToClient.OUT ? payload.toString('latin1', 1, 2) : '!';
  });
  for (const bytes of sent) reader.push(Buffer.from(bytes));
  assert.equal(text, 'abc!');
});
