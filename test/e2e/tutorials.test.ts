/** The sessions of docs/tutorials are typed as they stand, and print what they say. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { rootfsTemplate } from '../support/bundle.ts';
import { root, wherryBinary } from '../support/paths.ts';
import { must, run } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const folder = join(root, 'docs/tutorials');
const pages = readdirSync(folder).filter((name) => name !== 'README.md');

interface Step {
  command: string;
  shows: string[];
}

describe('tutorials', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  test('every page is in the list', () => {
    const list = readFileSync(join(folder, 'README.md'), 'utf8');
    for (const page of pages) assert.ok(list.includes(`(${page})`), page);
  });

  for (const page of pages) {
    test(page, async () => {
      const steps = stepsOf(readFileSync(join(folder, page), 'utf8'));
      assert.ok(steps.length > 3, 'a page without a session');
      const cwd = join(wherry.folder, page);
      mkdirSync(cwd);
      await must('cp', ['-a', await rootfsTemplate(), join(cwd, 'rootfs')]);
      const env = { ...wherry.env, PATH: `${dirname(wherryBinary)}:${wherry.env['PATH']}`, LC_ALL: 'C' };
      for (const { command, shows } of steps) {
        const { stdout } = await run('sh', ['-c', `{ ${command}\n} 2>&1`], { env, cwd });
        const lines = stdout.trimEnd() === '' ? [] : stdout.trimEnd().split('\n');
        const differs =
          lines.length !== shows.length || lines.some((line, index) => !matches(line, shows[index]!));
        assert.ok(
          !differs,
          `$ ${command}\nprints\n${stdout}instead of\n${shows.join('\n')}\n${wherry.log()}`,
        );
      }
    });
  }
});

/** Blanks at the end do not matter, runs of blanks are one blank, and `…` is anything. */
function matches(line: string, pattern: string): boolean {
  const plain = (text: string) => text.trim().replace(/\s+/g, ' ');
  const parts = plain(pattern)
    .split('…')
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').trim());
  return new RegExp(`^${parts.join('.*')}$`).test(plain(line));
}

function stepsOf(page: string): Step[] {
  const steps: Step[] = [];
  for (const [, block = ''] of page.matchAll(/```console\n([\s\S]*?)```/g)) {
    for (const line of block.trimEnd().split('\n')) {
      if (line.startsWith('$ ')) steps.push({ command: line.slice(2), shows: [] });
      else steps.at(-1)!.shows.push(line);
    }
  }
  return steps;
}
