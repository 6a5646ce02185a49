/** native/wire.h and src/daemon/wire.ts are one list in two languages. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as wire from '../../../src/daemon/wire.ts';

/** FromKeel → FROM_KEEL */
const upper = (name: string): string => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();

test('every constant of the links has the same value in C', () => {
  const header = readFileSync(new URL('../../../native/wire.h', import.meta.url), 'utf8');
  const inC = new Map<string, number>();
  for (const [, name, value] of header.matchAll(/^#define (\w+) ([\d*() ]+)(?:\/\*.*)?$/gm)) {
    inC.set(
      name!,
      value!
        .replaceAll(/[()]/g, '')
        .split('*')
        .reduce((product, one) => product * Number(one), 1),
    );
  }
  for (const [, name, value] of header.matchAll(/\b([A-Z][A-Z_]+) = (\d+)/g)) inC.set(name!, Number(value));

  const inTs = new Map<string, number>();
  for (const [name, value] of Object.entries(wire)) {
    if (typeof value === 'number') inTs.set(name, value);
    else if (typeof value === 'object') {
      for (const [key, one] of Object.entries(value)) inTs.set(`${upper(name)}_${key}`, one as number);
    }
  }
  assert.ok(inTs.size > 40);
  for (const [name, value] of inTs) assert.equal(inC.get(name), value, name);
  const framed = /^(FROM|TO)_(KEEL|CLIENT)_/;
  for (const name of inC.keys())
    if (framed.test(name)) assert.ok(inTs.has(name), `${name} is not in wire.ts`);
});
