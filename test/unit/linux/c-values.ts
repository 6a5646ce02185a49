/** Asks the C compiler: values of constant expressions, as the installed headers have them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The output of a C program. Throws with the compiler's messages. */
export function runC(source: string, flags: readonly string[] = []): string {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-c-'));
  try {
    const file = join(folder, 'program.c');
    writeFileSync(file, source);
    execFileSync('gcc', ['-std=gnu17', '-O0', ...flags, '-o', join(folder, 'program'), file], {
      stdio: 'pipe',
    });
    return execFileSync(join(folder, 'program'), { encoding: 'utf8' });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Each expression as a 64-bit number (negative ones as such).
 * @param prelude lines before the headers
 */
export function cValues(headers: readonly string[], expressions: readonly string[], prelude = ''): bigint[] {
  const source = [
    '#define _GNU_SOURCE',
    prelude,
    '#include <stddef.h>',
    ...headers.map((header) => `#include ${header.startsWith('"') ? header : `<${header}>`}`),
    'int printf(const char *, ...);',
    'int main(void) {',
    ...expressions.map((expression) => `  printf("%lld\\n", (long long)(${expression}));`),
    '}',
  ];
  return runC(source.join('\n'))
    .trim()
    .split('\n')
    .map((line) => BigInt(line));
}
