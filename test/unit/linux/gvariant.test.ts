import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseGVariant } from '../../../src/linux/gvariant.ts';
import '../../support/property-seed.ts';

const is = (text: string, signature: string, value: unknown) =>
  assert.deepEqual(parseGVariant(text), { signature, value }, text);

test('every type, with and without its name before it', () => {
  is('true', 'b', true);
  is('boolean false', 'b', false);
  is('5', 'i', 5n);
  is('-0x10', 'i', -16n);
  is('010', 'i', 8n);
  is('byte 255', 'y', 255);
  is('int16 -7', 'n', -7n);
  is('uint16 7', 'q', 7n);
  is('uint32 4294967295', 'u', 4294967295n);
  is('int64 -9', 'x', -9n);
  is('uint64 18446744073709551615', 't', 18446744073709551615n);
  is('1.5', 'd', 1.5);
  is('double 3', 'd', 3);
  is('-inf', 'd', -Infinity);
  is("'it\\'s'", 's', "it's");
  is('"a\\nb\\u00e9"', 's', 'a\nbé');
  is("objectpath '/a'", 'o', '/a');
  is("signature 'as'", 'g', 'as');
  is("b'a\\101'", 'ay', Buffer.from('aA\0'));
});

test('containers, nested', () => {
  is("['a', 'b']", 'as', ['a', 'b']);
  is('@as []', 'as', []);
  is('@au [1, 2]', 'au', [1n, 2n]);
  is('[uint64 1, 2]', 'at', [1n, 2n]);
  is('[byte 1, 0x02]', 'ay', new Uint8Array([1, 2]));
  is("[('/dev/sda', uint64 5)]", 'a(st)', [['/dev/sda', 5n]]);
  is("@a(st) [('/dev/sda', 5), ('/dev/sdb', 6)]", 'a(st)', [
    ['/dev/sda', 5n],
    ['/dev/sdb', 6n],
  ]);
  is("{'a': 1, 'b': 2}", 'a{si}', [
    ['a', 1n],
    ['b', 2n],
  ]);
  is("<'x'>", 'v', { signature: 's', value: 'x' });
  is('(true, ["x"])', '(bas)', [true, ['x']]);
});

test('anything else is refused with its place, whatever it is', () => {
  const bad = [
    '',
    'bare words',
    '[',
    '[]',
    '1 2',
    "'open",
    'byte 256',
    'int32 5000000000',
    '[1, "a"]',
    '@a 5',
    '()',
  ];
  for (const text of [
    ...bad,
    '@au ["a"]',
    '{1: }',
    '['.repeat(100),
    'uint32 1.5',
    "b'",
    '@(ss [1]',
    '--1',
    '@aas [1]',
  ])
    assert.throws(() => parseGVariant(text), /is expected at character \d/, text);
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'[](){}<>@asutb\'"\\,: 01-.xe') }), (text) => {
      try {
        parseGVariant(text);
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
