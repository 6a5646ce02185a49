import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  parseBlkio,
  parseCount,
  parseIoStat,
  parseKeyed,
  parseList,
  parsePartitions,
  parsePressure,
  parseRdma,
  type Text,
  UNLIMITED,
} from '../../../src/cgroup/parse.ts';
import '../../support/property-seed.ts';

/** In the middle of a buffer with other bytes behind it, as after a longer file was read into it. */
function text(content: string): Text {
  return { bytes: Buffer.from(`${content}999 rest=1\n`), length: Buffer.byteLength(content) };
}
const word = fc.stringMatching(/^[a-z][a-z0-9_.]{0,20}$/);
const count = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

test('a count is any 64-bit number, or max', () => {
  fc.assert(
    fc.property(count, fc.boolean(), (value, newline) => {
      assert.equal(parseCount(text(`${value}${newline ? '\n' : ''}`)), value);
    }),
  );
  assert.equal(parseCount(text('max\n')), UNLIMITED);
  assert.equal(parseCount(text('max\n'), 0n), 0n);
  assert.equal(parseCount(text('-1\n')), -1n);
  for (const bad of ['', '\n', 'maximum\n', 'x1\n']) assert.equal(parseCount(text(bad)), undefined, bad);
});

test('name and value lines come back whole, whatever names were remembered', () => {
  fc.assert(
    fc.property(fc.dictionary(word, count, { noNullPrototype: true }), fc.array(word), (values, names) => {
      const content = Object.entries(values)
        .map(([name, value]) => `${name} ${value}\n`)
        .join('');
      assert.deepEqual(parseKeyed(text(content), names), values);
      assert.deepEqual(parseKeyed(text(content), names), values);
    }),
  );
});

test('a name that begins like a remembered one is another name', () => {
  const names = ['pgfault'];
  assert.deepEqual(parseKeyed(text('pgfaults 1\nx\n 2\ny nothing\nz 3'), names), { pgfaults: 1n, z: 3n });
});

test('numbers in a line', () => {
  fc.assert(
    fc.property(fc.array(count), (values) =>
      assert.deepEqual(parseList(text(`${values.join(' ')} \n`)), values),
    ),
  );
});

test('pressure', () => {
  assert.deepEqual(
    parsePressure(
      text(
        'some avg10=0.12 avg60=3.00 avg300=100.00 total=18446744073709551615\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n',
      ),
    ),
    {
      some: { avg10: 0.12, avg60: 3, avg300: 100, total: 18446744073709551615n },
      full: { avg10: 0, avg60: 0, avg300: 0, total: 7n },
    },
  );
  assert.equal(parsePressure(text('')), undefined);
});

test('io.stat: unknown keys and devices that never did anything', () => {
  const zero = { rbytes: 0n, wbytes: 0n, rios: 0n, wios: 0n };
  assert.deepEqual(
    parseIoStat(
      text(
        '8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:0 \n253:1 cost.usage=1.5 wios=9 use_delay=x\nbroken\n',
      ),
    ),
    [
      { major: 8n, minor: 16n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n },
      { major: 7n, minor: 0n, ...zero },
      { major: 253n, minor: 1n, ...zero, wios: 9n },
    ],
  );
});

test('blkio: with and without operations, the sum of all devices left out', () => {
  const name = (major: bigint, minor: bigint) => `/dev/${major}.${minor}`;
  assert.deepEqual(parseBlkio(text('8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n'), name), [
    { op: 'Read', device: '/dev/8.0', major: 8n, minor: 0n, value: 4096n },
    { op: 'Total', device: '/dev/8.0', major: 8n, minor: 0n, value: 4096n },
  ]);
  assert.deepEqual(parseBlkio(text('8:16 12\n'), name), [
    { op: '', device: '/dev/8.16', major: 8n, minor: 16n, value: 12n },
  ]);
});

test('rdma', () => {
  assert.deepEqual(
    parseRdma(text('mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=max hca_object=max\n')),
    [
      { device: 'mlx4_0', hcaHandles: 2, hcaObjects: 2000 },
      { device: 'ocrdma1', hcaHandles: 4294967295, hcaObjects: 4294967295 },
    ],
  );
});

test('partitions', () => {
  const names = parsePartitions(
    'major minor  #blocks  name\n\n   8        0  500 sda\n 259       12  7 nvme0n1p2\n',
  );
  assert.deepEqual(
    [...names],
    [
      ['8:0', '/dev/sda'],
      ['259:12', '/dev/nvme0n1p2'],
    ],
  );
});

test('no bytes whatever make a parser throw or hang', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .string({ maxLength: 200, unit: fc.constantFrom(...'some full 8:0 max=1.\n\0-') })
      .map((value) => Buffer.from(value)),
  );
  fc.assert(
    fc.property(bytes, (content) => {
      const input = { bytes: Buffer.from(content), length: content.length };
      for (const parse of [parseCount, parseKeyed, parseList, parsePressure, parseIoStat, parseRdma])
        parse(input);
      parseBlkio(input, () => '');
    }),
  );
});
