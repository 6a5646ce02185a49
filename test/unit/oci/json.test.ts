import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatJson, parseJson } from '../../../src/oci/json.ts';
import { invalid } from './support.ts';
import '../../support/property-seed.ts';

describe('text that is not JSON', () => {
  const cases: [text: string, message: string][] = [
    ['', 'line 1, column 1: expected a value, found the end of the file'],
    ['{\n  "a": 1,\n}', 'line 3, column 1: expected a name in double quotes, found "}"'],
    ['{"a": tru}', 'line 1, column 7: expected a value, found "t"'],
    ['[1,]', 'line 1, column 4: expected a value, found "]"'],
    ['[-]', 'line 1, column 2: expected a value or ], found "-"'],
    ['{"a" 1}', 'line 1, column 6: expected :, found "1"'],
    ['{a:1}', 'line 1, column 2: expected a name in double quotes or }, found "a"'],
    ['{"a":01}', 'line 1, column 6: expected a value, found "0"'],
    ['{"a":1 "b":2}', 'line 1, column 8: expected , or }, found a string'],
    ['["\\x"]', 'line 1, column 2: expected a value or ], found a string that is not closed or not valid'],
    ['[[1}', 'line 1, column 4: expected , or ], found "}"'],
    ['{} x', 'line 1, column 4: expected the end, found "x"'],
    ['\ufeff{}', 'line 1, column 1: expected a value, found "\ufeff"'],
  ];
  for (const [text, message] of cases) {
    it(`${JSON.stringify(text)}: ${message}`, () => {
      const error = invalid(() => parseJson(text, 'config.json'));
      assert.equal(error.message, `config.json: not JSON: ${message}`);
    });
  }

  it('of other bytes than UTF-8 says so', () => {
    const error = invalid(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22), 'config.json'));
    assert.equal(error.message, 'config.json: expected UTF-8 text, found other bytes');
  });

  it('is located wherever a good text is cut, and never taken for good', () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(), (text, at) => {
        const cut = text.slice(0, at % text.length);
        let good = true;
        try {
          JSON.parse(cut);
        } catch {
          good = false;
        }
        if (!good)
          assert.match(
            invalid(() => parseJson(cut, 'x')).message,
            /^x: not JSON: line \d+, column \d+: expected /,
          );
      }),
    );
  });

  it('nested a hundred thousand deep is refused or read, not fatal', () => {
    const deep = '['.repeat(100_000);
    assert.match(invalid(() => parseJson(`${deep}null`, 'x')).message, /^x: /);
  });
});

describe('JSON text', () => {
  it('is what JSON.parse says, for small numbers and without null', () => {
    const values = fc
      .jsonValue({ noUnicodeString: false })
      .filter((value) => !JSON.stringify(value).includes('null'));
    fc.assert(
      fc.property(values, (value) => {
        const text = JSON.stringify(value);
        fc.pre(!/[0-9]{16}/.test(text));
        assert.deepEqual(parseJson(text, 'x'), JSON.parse(text));
      }),
    );
  });

  it('holds integers of any size through reading and writing', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (value) => {
        const read = parseJson(`{"v": ${value}}`, 'x') as { v: number | bigint };
        assert.equal(BigInt(read.v), value);
        assert.equal(formatJson(read).replace(/\s/g, ''), `{"v":${value}}`);
      }),
    );
  });

  it('loses members that are null, also in lists of objects, and keeps texts that say null', () => {
    assert.deepEqual(parseJson('{"a":null,"b":[{"c":null,"d":"x: null"}]}', 'x'), { b: [{ d: 'x: null' }] });
  });
});
