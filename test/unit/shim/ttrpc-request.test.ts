import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Request } from '../../../shim/gen/ttrpc/ttrpc.ts';
import { decodeRequest } from '../../../shim/ttrpc/request.ts';
import '../../support/property-seed.ts';

test('a request is what the generated codec says', () => {
  const anyRequest = fc.record({
    service: fc.string({ unit: 'grapheme' }),
    method: fc.string(),
    payload: fc.uint8Array({ maxLength: 300, size: 'max' }).map((bytes) => Buffer.from(bytes)),
    timeoutNano: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    metadata: fc.array(fc.record({ key: fc.string(), value: fc.string() })),
  });
  fc.assert(
    fc.property(anyRequest, (request) => {
      const found = decodeRequest(Buffer.from(Request.encode(request).finish()));
      const { service, method, payload } = request;
      assert.deepEqual(found, { service, method, payload, timeoutNano: found.timeoutNano });
      const nanoseconds = Number(request.timeoutNano);
      if (nanoseconds < 0) assert.equal(found.timeoutNano, -1);
      else assert.ok(Math.abs(found.timeoutNano - nanoseconds) <= nanoseconds / 2 ** 50);
    }),
  );
});

test('what the message has no field for is passed over; the last of the same field counts', () => {
  const bytes = Buffer.concat([
    Buffer.from('0a0161', 'hex'),
    Buffer.from('f00101', 'hex'), // field 30: 1
    Buffer.from('f1010000000000000000', 'hex'), // 8 bytes
    Buffer.from('f50100000000', 'hex'), // 4 bytes
    Buffer.from('1202', 'hex'),
    Buffer.from('62630a0164', 'hex'),
    Buffer.from('2d01020304', 'hex'), // field 5 as 4 bytes
  ]);
  assert.deepEqual(decodeRequest(bytes), {
    service: 'd',
    method: 'bc',
    payload: Buffer.alloc(0),
    timeoutNano: 0,
  });
});

test('no bytes can be read beyond the end, and no field can be of a kind that is none', () => {
  for (const bad of [
    '0a',
    '0a02',
    '0a0261',
    'ff',
    '20',
    '2080',
    '00',
    '0b',
    '0c',
    '06',
    '0e',
    '0500',
    '01',
    '0d0000',
  ])
    assert.throws(() => decodeRequest(Buffer.from(bad, 'hex')), Error, bad);
  assert.throws(() => decodeRequest(Buffer.from('20ffffffffffffffffffffff01', 'hex')), /more than ten/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      try {
        const { payload } = decodeRequest(Buffer.from(bytes));
        assert.ok(payload.length < Math.max(1, bytes.length));
      } catch (error) {
        assert.ok(error instanceof Error && !(error instanceof RangeError) && !(error instanceof TypeError));
      }
    }),
  );
});
