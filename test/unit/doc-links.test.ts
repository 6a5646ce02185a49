/** docs/security.md and docs/parity.md say which test shows what: here each of those is looked for. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { readCases } from '../integration/oci-suite/cases.ts';
import { nowhere } from '../integration/oci-suite/needs.ts';
import { root } from '../support/paths.ts';

const cases = join(root, 'test/integration/oci-suite/cases');

interface Row {
  cells: string[];
  /** The cell with the tests. */
  shown: string;
}

/** Rows of the tables in a page, their heads left out. */
function rows(page: string): Row[] {
  return readFileSync(join(root, 'docs', page), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
    .map((line) => {
      const cells = line
        .slice(1, -1)
        .split(' | ')
        .map((cell) => cell.trim());
      return { cells, shown: cells.at(-1) ?? '' };
    })
    .filter(({ shown }) => !/^(Played by|Shown by)/.test(shown));
}

/** What a cell claims that is not so: files that are absent, words that stand in no test of theirs, cases that do not exist. */
function untrue(page: string, shown: string): string[] {
  const found: string[] = [];
  for (const part of shown.split('; ')) {
    const link = /\[[^\]]+\]\(([^)#]+)\)/.exec(part)?.[1];
    const quoted = [...part.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text);
    if (link === undefined) {
      for (const name of quoted) {
        if (globSync(`${name}.json`, { cwd: cases }).length === 0) found.push(`no case ${name}`);
      }
      continue;
    }
    const path = join(root, 'docs', link);
    if (!existsSync(path)) {
      found.push(`no file ${link} (from ${dirname(page)})`);
      continue;
    }
    const text = readFileSync(path, 'utf8').replaceAll("\\'", "'");
    for (const words of quoted) if (!text.includes(words)) found.push(`${link} has no "${words}"`);
  }
  return found;
}

describe('docs/security.md', () => {
  const table = rows('security.md');
  it('has every row of both lists', () => {
    const numbers = table.map(({ cells }) => Number(cells[0]));
    assert.deepEqual(
      numbers,
      [...Array(25).keys(), ...Array(6).keys()].map((n) => n + 1),
    );
  });
  for (const { cells, shown } of table) {
    it(cells[1] ?? '', () => {
      assert.ok(/\[|`/.test(shown), 'shown by nothing');
      assert.deepEqual(untrue('security.md', shown), []);
    });
  }
  it('excuses two rows at most', () => {
    const excused = table.filter(({ shown }) => shown.startsWith('excused')).map(({ cells }) => cells[0]);
    assert.deepEqual(excused, ['14', '17']);
  });
});

describe('docs/parity.md', () => {
  for (const { cells, shown } of rows('parity.md')) {
    it(cells[0] ?? '', () => {
      const own = cells[1] ?? '';
      assert.match(own, /^(yes|refused)\b/, 'nothing is half there');
      assert.ok(/\[|`/.test(shown), 'shown by nothing');
      assert.deepEqual(untrue('parity.md', shown), []);
    });
  }
});

describe('docs/not-shown-here.md', () => {
  const table = rows('not-shown-here.md').filter(({ shown }) => shown !== 'Refusal');
  const named = table.map(({ cells }) => (cells[0] ?? '').replaceAll('`', ''));

  it('has a row for each case that no machine of ours can run, and for no other', () => {
    const found = readCases()
      .filter(({ needs = [], noGolden }) => noGolden !== true && needs.some((need) => nowhere.includes(need)))
      .map(({ name }) => name);
    assert.deepEqual(named.sort(), found.sort());
  });

  for (const { cells } of table) {
    it(cells[0] ?? '', () => {
      const tape = /\(([^)]+)\)/.exec(cells[2] ?? '')?.[1] ?? '';
      const text = readFileSync(join(root, 'docs', tape), 'utf8');
      assert.ok(text.trim() !== '', 'a tape that changes nothing');
      assert.deepEqual(untrue('not-shown-here.md', cells[3] ?? ''), []);
    });
  }
});
