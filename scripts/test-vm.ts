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
import { withoutCompilers } from './guest-payload.ts';
import { fail, say } from './tools.ts';

/** Of a boot; a busy machine emulates slowly. */
const LIMIT = 1_800_000;
const flags = ['--test-timeout=300000', '--test-reporter=spec'];
/** One measures time, the other starts D-Bus and systemd anew. */
const alone = ['bite', 'systemd'];

interface Boot {
  /** For the kernel. */
  options: string[];
  /** A command that must succeed before the tests. */
  before: string;
}

const cases = 'test/integration/oci-suite/suite.test.ts';
/** Tests that this host's `npm test` runs on its cgroups as well. */
const anywhere = [
  ...['bite', 'cgroup', 'devices', 'oom', 'reasons', 'resources', 'stats'].map(
    (name) => `test/integration/cgroup/${name}.test.ts`,
  ),
  cases,
];
/** The first boot: Debian's own way, which is cgroup v2 alone and AppArmor. */
const unified: Boot = { options: [], before: 'sh test/vm/security-modules/load.sh apparmor' };
/** The second boot: v1's controllers with systemd, a cgroup2 hierarchy beside them; and SELinux. Its tests are in test/vm/hybrid. */
const hybrid: Boot = {
  options: ['systemd.unified_cgroup_hierarchy=0', 'security=selinux', 'selinux=1'],
  before:
    'sh test/vm/security-modules/load.sh selinux && export CASES=process/selinux,process/apparmor,mount-label/',
};
const words = process.argv.slice(2);
const started = performance.now();
const isCommand = words[0] === '--command' || words[0] === '--command-hybrid';
const boots = isCommand
  ? [withCommand(words[0] === '--command' ? unified : hybrid, words.slice(1).join(' '))]
  : testBoots();

if (process.env['WHERRY_VM_BUILD'] !== '0') {
  say('== build');
  await buildAll();
}
const image = ensureGuestImage();
const failures: string[] = [];
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
  const failed = (what: string): number => failures.push(`FAILED in the guest ${options.join(' ')}: ${what}`);
  if (code === undefined) failed(`it ended before the tests did; the end of its console:\n${tail(console)}`);
  else if (code !== 0) failed(`exit code ${code}`);
  else if (!isCommand && summary === 0) failed('no test was run');
}
if (failures.length > 0) fail(failures.join('\n'));
say(`everything passed in the guest, ${Math.round((performance.now() - started) / 1000)} s in all`);

function testBoots(): { command: string; options: string[] }[] {
  const all = [...globSync('test/vm/**/*.test.ts', { cwd: root }), ...anywhere]
    .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
    .sort();
  if (all.length === 0)
    fail(`test/vm has no test file${words.length === 0 ? '' : ` named ${words.join(' or ')}`}`);
  const isHybrid = (file: string): boolean => file.startsWith('test/vm/hybrid/');
  return [
    { boot: unified, files: all.filter((file) => !isHybrid(file)) },
    // The cases of labels are for both.
    { boot: hybrid, files: all.filter((file) => isHybrid(file) || file === cases) },
  ]
    .filter(({ files }) => files.length > 0)
    .map(({ boot, files }) => withCommand(boot, testCommand(files)));
}

/** Most files two at a time, as the guest has two processors; then the others. Fails when any part does. */
function testCommand(files: readonly string[]): string {
  const part = (options: string, chosen: readonly string[]): string[] =>
    chosen.length === 0 ? [] : [['node', options, '--test', ...flags, ...chosen].join(' ')];
  const isAlone = (file: string): boolean => alone.some((name) => file.endsWith(`/${name}.test.ts`));
  const others = files.filter((file) => !withoutCompilers.has(file));
  const parts = [
    ...part(
      '--test-concurrency=2',
      others.filter((file) => !isAlone(file)),
    ),
    ...part('--test-concurrency=1', others.filter(isAlone)),
    ...part(
      '--jitless --test-concurrency=1',
      files.flatMap((file) => withoutCompilers.get(file) ?? []),
    ),
  ];
  return `{ failed=0; ${parts.map((command) => `${command} || failed=1`).join('; ')}; [ $failed = 0 ]; }`;
}

function withCommand(boot: Boot, command: string): { command: string; options: string[] } {
  return { command: `${boot.before} && ${command}`, options: boot.options };
}
