/** `npm run check`: everything that can be wrong without running anything. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../test/support/paths.ts';
import { layerProblems } from './check-layers.ts';
import { nativeProblems } from './check-native.ts';
import { generate } from './gen.ts';
import { packaged, say, show } from './tools.ts';

const checks: readonly [name: string, check: () => boolean][] = [
  ['format and lint', () => show(packaged('biome'), ['ci', '--reporter=summary', '.']) === 0],
  ['types', () => show(packaged('tsc'), ['-p', root]) === 0],
  ['import layers', () => report(layerProblems(root))],
  ['size of the C', () => report(nativeProblems())],
  ['wire contracts', () => show(packaged('buf'), ['lint']) === 0],
  ['generated code is current', generatedIsCurrent],
];

/** Runs every check, also after one failed; returns the names of those that failed. */
export function checkAll(): string[] {
  return checks.flatMap(([name, check]) => {
    const start = performance.now();
    const good = check();
    say(`${good ? 'ok  ' : 'FAIL'} ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    return good ? [] : [name];
  });
}

function report(problems: readonly string[]): boolean {
  for (const problem of problems) say(problem);
  return problems.length === 0;
}

function generatedIsCurrent(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-gen-'));
  try {
    generate(folder);
    const same = show('diff', ['-rq', join(folder, 'shim/gen'), join(root, 'shim/gen')]) === 0;
    if (!same) say('shim/gen differs from what proto/ gives: npm run gen');
    return same;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) process.exit(checkAll().length === 0 ? 0 : 1);
