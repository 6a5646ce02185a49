import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeFrame, encodeFrame, type Frame, FrameCutter, MAX_PAYLOAD } from '../../../shim/ttrpc/frame.ts';
import '../../support/property-seed.ts';

function cut(bytes: Buffer, sizes: readonly number[]): { frames: Frame[]; oversized: [number, number][] } {
  const frames: Frame[] = [];
  const oversized: [number, number][] = [];
  const cutter = new FrameCutter(
    (frame) => frames.push({ ...frame, payload: Buffer.from(frame.payload) }),
    (frame, length) => oversized.push([frame.streamId, length]),
  );
  let from = 0;
  for (let index = 0; from < bytes.length; index++) {
    const size = Math.max(1, sizes[index % Math.max(sizes.length, 1)] ?? 1);
    cutter.push(bytes.subarray(from, from + size));
    from += size;
  }
  return { frames, oversized };
}

describe('ttrpc frames', () => {
  it('have a big endian header of ten bytes', () => {
    const frame = encodeFrame(0x01020305, 1, 4, Buffer.from('abc'));
    assert.equal(frame.toString('hex'), '00000003010203050104616263');
    assert.deepEqual(decodeFrame(frame), {
      streamId: 0x01020305,
      type: 1,
      flags: 4,
      payload: Buffer.from('abc'),
    });
  });

  it('are refused where header and length do not fit', () => {
    for (const hex of [
      '',
      '00',
      '000000000000000101',
      '0000000100000001010000ff',
      '00000002000000010100ff',
    ]) {
      assert.throws(() => decodeFrame(Buffer.from(hex, 'hex')), { kind: 'invalid-argument' }, hex);
    }
  });

  it('are never sent larger than the peer takes', () => {
    assert.equal(encodeFrame(1, 2, 0, Buffer.alloc(MAX_PAYLOAD)).length, MAX_PAYLOAD + 10);
    assert.throws(() => encodeFrame(1, 2, 0, Buffer.alloc(MAX_PAYLOAD + 1)), { kind: 'resource-exhausted' });
  });

  it('come out of any cuts of the stream as they went in', () => {
    const frame = fc.record({
      streamId: fc.integer({ min: 0, max: 0xffffffff }),
      type: fc.integer({ min: 0, max: 255 }),
      flags: fc.integer({ min: 0, max: 255 }),
      payload: fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
    });
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        (frames, sizes) => {
          const bytes = Buffer.concat(
            frames.map(({ streamId, type, flags, payload }) => encodeFrame(streamId, type, flags, payload)),
          );
          const plain = frames.map((frame) => ({ ...frame }));
          assert.deepEqual(cut(bytes, sizes), { frames: plain, oversized: [] });
        },
      ),
    );
  });

  it('over the limit are thrown away whole and reported, and the next is read', () => {
    const header = Buffer.alloc(10);
    header.writeUInt32BE(MAX_PAYLOAD + 1, 0);
    header.writeUInt32BE(9, 4);
    header.writeUInt8(2, 8);
    const bytes = Buffer.concat([
      header,
      Buffer.alloc(MAX_PAYLOAD + 1, 0x41),
      encodeFrame(11, 2, 0, Buffer.from('x')),
    ]);
    const { frames, oversized } = cut(bytes, [65_536, 7, 4096]);
    assert.deepEqual(oversized, [[9, MAX_PAYLOAD + 1]]);
    assert.deepEqual(frames, [{ streamId: 11, type: 2, flags: 0, payload: Buffer.from('x') }]);
  });
});
