/**
 * `npm run test:vm`: test/vm in a guest whose only cgroup hierarchy is v2 and whose init is systemd. Makes what is missing.
 * `npm run test:vm -- plan stats` runs only files whose name has one of the words; `-- --command 'COMMAND'` runs that instead.
 * `--command-hybrid` does so in the second boot, whose controllers are v1's.
 */
import { globSync } from 'node:fs';
import { root } from '../test/support/paths.ts';
import { buildAll } from './build.ts';
import { type GuestResult, runInGuest, tail } from './guest.ts';
import { ensureGuestImage } from './guest-image.ts';
import { fail, say } from './tools.ts';

const LIMIT = 600_000;
/** Tests that this host's `npm test` runs on its cgroups as well. */
const anywhere = ['bite', 'cgroup', 'devices', 'oom', 'resources'].map(
  (name) => `test/integration/cgroup/${name}.test.ts`,
);
/** The second boot: v1's controllers with systemd, a cgroup2 hierarchy beside them. Its tests are in test/vm/hybrid. */
const hybrid = ['systemd.unified_cgroup_hierarchy=0'];
const words = process.argv.slice(2);
const started = performance.now();
const isCommand = words[0] === '--command' || words[0] === '--command-hybrid';
const boots = isCommand
  ? [{ command: words.slice(1).join(' '), options: words[0] === '--command' ? [] : hybrid }]
  : testBoots();

if (process.env['WHERRY_VM_BUILD'] !== '0') {
  say('== build');
  await buildAll();
}
const image = ensureGuestImage();
for (const { command, options } of boots) {
  say(`== vm ${options.join(' ')}`);
  let summary = 0;
  let lines = 0;
  const run = (): Promise<GuestResult> =>
    runInGuest(
      image,
      command,
      (line) => {
        lines++;
        if (/^(#|ℹ) (tests|pass) \d+/.test(line)) summary++;
        say(line);
      },
      LIMIT,
      options,
    ).catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
  let { code, console } = await run();
  // Nothing was tested then, so nothing is hidden by a second boot; it is said aloud.
  if (code === undefined && lines === 0) {
    say(`the guest ended before it began; booting it once more. The end of its console:\n${tail(console)}`);
    ({ code, console } = await run());
  }
  if (code === undefined)
    fail(`the guest ended before the tests did; the end of its console:\n${tail(console)}`);
  if (code !== 0) fail(`FAILED in the guest with exit code ${code}`);
  if (!isCommand && summary === 0) fail('the guest ran no tests');
}
say(`everything passed in the guest, ${Math.round((performance.now() - started) / 1000)} s in all`);

function testBoots(): { command: string; options: string[] }[] {
  const all = [...globSync('test/vm/**/*.test.ts', { cwd: root }), ...anywhere]
    .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
    .sort();
  if (all.length === 0)
    fail(`test/vm has no test file${words.length === 0 ? '' : ` named ${words.join(' or ')}`}`);
  const flags = ['--test', '--test-concurrency=1', '--test-timeout=120000', '--test-reporter=spec'];
  const isHybrid = (file: string): boolean => file.startsWith('test/vm/hybrid/');
  return [
    { files: all.filter((file) => !isHybrid(file)), options: [] },
    { files: all.filter(isHybrid), options: hybrid },
  ]
    .filter(({ files }) => files.length > 0)
    .map(({ files, options }) => ({ command: ['node', ...flags, ...files].join(' '), options }));
}
