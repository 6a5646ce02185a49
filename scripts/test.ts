/**
 * `npm test`: builds, checks, and runs every suite as one run of Node's own test runner, which prints its own totals. After each suite
 * nothing may be left on the machine. `npm test -- unit e2e` runs only what is named; `npm test -- --skip-check`.
 * The suite old-kernel is the integration suite again, on a kernel that looks like the oldest one that Wherry runs on.
 */
import { randomBytes } from 'node:crypto';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { compileProgram } from '../test/integration/oci-suite/host.ts';
import { LeakCheck } from '../test/support/leaks.ts';
import { markVariable, root } from '../test/support/paths.ts';
import { buildAll } from './build.ts';
import { checkAll } from './check.ts';
import { fail, node, say, show } from './tools.ts';

const suites = [
  { name: 'unit', concurrency: 2, timeout: 60_000, minutes: 5 },
  { name: 'integration', concurrency: 2, timeout: 120_000, minutes: 15 },
  { name: 'old-kernel', folder: 'integration', concurrency: 2, timeout: 120_000, minutes: 15 },
  { name: 'e2e', concurrency: 2, timeout: 300_000, minutes: 15 },
] as const satisfies Suite[];

interface Suite {
  name: string;
  /** Below test/, where it is not the name. */
  folder?: string;
  concurrency: number;
  timeout: number;
  minutes: number;
}

const oldKernel = join(root, 'test/support/old-kernel.c');
const words = process.argv.slice(2);
const named = words.filter((word) => !word.startsWith('-'));
const unknown = named.filter((word) => word !== 'check' && !suites.some((suite) => suite.name === word));
if (unknown.length > 0)
  fail(
    `no suite is called ${unknown.join(' or ')}; there are check, ${suites.map((suite) => suite.name).join(', ')}`,
  );
const wanted = (name: string): boolean => named.length === 0 || named.includes(name);

const failures: string[] = [];
say('== build');
await buildAll();
if (wanted('check')) {
  say('== check');
  failures.push(...checkAll().map((name) => `check: ${name}`));
}
for (const suite of suites) {
  if (wanted(suite.name)) failures.push(...(await runSuite(suite)));
}
say('== result');
if (failures.length > 0) fail(failures.map((failure) => `FAILED ${failure}`).join('\n'));
say('everything passed, nothing was left behind');

async function runSuite(suite: Suite): Promise<string[]> {
  say(`== ${suite.name}`);
  const files = globSync(`test/${suite.folder ?? suite.name}/**/*.test.ts`, { cwd: root }).sort();
  if (files.length === 0) return [`${suite.name}: no tests`];
  if (suite.name !== 'unit' && process.getuid?.() !== 0) return [`${suite.name}: needs root`];
  const mark = randomBytes(8).toString('hex');
  const leaks = new LeakCheck(mark);
  const options = [
    '--test',
    `--test-concurrency=${suite.concurrency}`,
    `--test-timeout=${suite.timeout}`,
    '--test-reporter=spec',
  ];
  const starter = suite.name === 'old-kernel' ? [await compileProgram(oldKernel)] : [];
  const [program = node, ...args] = [...starter, node, ...options, ...files];
  const code = show(program, args, {
    env: { ...process.env, [markVariable]: mark },
    timeout: suite.minutes * 60_000,
  });
  if (code === 124) say(`no end within ${suite.minutes} minutes: a test file hangs`);
  const left = await leaks.leftovers();
  for (const one of left) say(`left behind: ${one}`);
  return [
    ...(code === 0 ? [] : [`${suite.name}: tests failed (exit code ${code})`]),
    ...(left.length === 0 ? [] : [`${suite.name}: ${left.length} things left behind`]),
  ];
}
