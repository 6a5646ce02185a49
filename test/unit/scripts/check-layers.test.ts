import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { layerProblems } from '../../../scripts/check-layers.ts';
import { codeLines } from '../../../scripts/check-native.ts';

function problems(files: Record<string, string>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-layers-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(folder, dirname(name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    return layerProblems(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const empty = { 'src/linux/a.ts': '', 'src/errors.ts': '', 'src/cli/a.ts': '', 'shim/a.ts': '' };

test('imports go down', () => {
  assert.deepEqual(
    problems({ ...empty, 'src/tape/b.ts': "import { a } from '../linux/a.ts';\nimport '../errors.ts';" }),
    [],
  );
});

test('imports that go up, also of types alone, and of shim from src', () => {
  const found = problems({
    ...empty,
    'src/tape/b.ts': "import type { A } from '../cli/a.ts';",
    'src/daemon/c.ts': "export {\n  a,\n} from '../../shim/a.ts';",
    'src/daemon/d.ts': "const lazy = await import('../../shim/a.ts');",
  });
  assert.deepEqual(found, [
    'src/daemon/c.ts:1: src/daemon must not import shim/a.ts',
    'src/daemon/d.ts:1: src/daemon must not import shim/a.ts',
    'src/tape/b.ts:1: src/tape must not import src/cli/a.ts',
  ]);
});

test('cycles of values; types may be circular', () => {
  const values = { 'shim/b.ts': "import { c } from './c.ts';", 'shim/c.ts': "import { b } from './b.ts';" };
  assert.deepEqual(problems(values), ['shim/b.ts:1: import cycle: shim/b.ts → shim/c.ts → shim/b.ts']);
  assert.deepEqual(problems({ ...values, 'shim/c.ts': "import { type B, type C } from './b.ts';" }), []);
});

test('forbidden imports, console and default exports, but not in comments', () => {
  const text =
    "// console.log\n/* import 'koffi' */\nimport koffi from 'koffi';\nconsole.log(1);\nexport default koffi;";
  assert.deepEqual(problems({ 'shim/a.ts': text }), [
    'shim/a.ts:3: imports koffi: only src/linux calls C',
    'shim/a.ts:4: uses console: use the log',
    'shim/a.ts:5: default export: name it',
  ]);
  assert.deepEqual(problems({ 'src/linux/a.ts': "import koffi from 'koffi';" }), []);
  assert.equal(problems({ 'src/cli/a.ts': "import { spawn } from 'node:child_process';" }).length, 1);
});

test('lines of code are neither comment nor empty', () => {
  assert.equal(codeLines('/* a\n b */\n\nint x; // c\n// d\nint y; /* e */\n'), 2);
});
