/** docs/shim-behaviours.md: each behaviour once, and what it points to is there. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const docs = join(import.meta.dirname, '../../../docs');
const rows = readFileSync(join(docs, 'shim-behaviours.md'), 'utf8')
  .split('\n')
  .flatMap((line) => {
    const [, number, behaviour = '', state = '', links = ''] = line.split('|').map((cell) => cell.trim());
    return /^\d+$/.test(number ?? '') ? [{ number: Number(number), behaviour, state, links }] : [];
  });

test('every behaviour has its line', () => {
  assert.deepEqual(
    rows.map(({ number }) => number),
    Array.from({ length: 63 }, (_, index) => index + 1),
  );
  for (const { number, behaviour, state } of rows) {
    assert.notEqual(behaviour, '', `${number}`);
    assert.match(state, /^(shown|not shown)/, `${number}`);
  }
});

for (const { number, state, links } of rows.filter((row) => row.state.startsWith('shown')))
  test(`${number} is shown by a test that exists`, () => {
    const found = [...`${state} ${links}`.matchAll(/\]\(([^)]+)\)(?: "([^"]+)")?/g)];
    assert.ok(links.includes(']('), 'a link');
    for (const [, link = '', title] of found) {
      const path = join(docs, link);
      assert.ok(existsSync(path), link);
      const text = readFileSync(path, 'utf8');
      if (link.endsWith('allowed-differences.ts')) continue;
      const named = new RegExp(`test\\(\\s*['"\`]${number}[.:] `);
      assert.ok(title === undefined ? named.test(text) : text.includes(title), `${link}: a test of it`);
    }
  });
