/**
 * `npm run fault -- [--points all|N] [--first F] [--last L] [--with WAY,…] [--parallel P] [--kills K] [--containers C] [--workers W] [--lasting M] [--seed S]
 * [--containerd 2.1,1.6]`: a real containerd runs containers and execs while things befall wherryd, and the table of what was checked is
 * printed. First, each way (kill, kill-twice, throw, stop, heap, memory, descriptors) at every boundary between two steps of a container's life, or at N
 * of them that are evenly spread, from the F-th to the L-th, P at a time. Then K kills at random moments of C
 * containers, W at a time beside M that outlive all kills. Needs root and a built tree. Exit code 1: something was lost.
 */
import { parseArgs } from 'node:util';
import { FaultHarness } from '../test/fault/harness.ts';
import { acts, life, type Outcome } from '../test/fault/life.ts';
import { atStep, countSteps, type Way, ways } from '../test/fault/steps.ts';
import type { ContainerdVersion } from '../test/support/debs.ts';

const { values } = parseArgs({
  options: {
    points: { type: 'string', default: 'all' },
    first: { type: 'string', default: '1' },
    last: { type: 'string', default: '100000' },
    with: { type: 'string', default: 'kill' },
    parallel: { type: 'string', default: '1' },
    kills: { type: 'string', default: '20' },
    containers: { type: 'string', default: '20' },
    workers: { type: 'string', default: '3' },
    lasting: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    containerd: { type: 'string', default: '2.1,1.6' },
  },
});

/** mulberry32: the same seed gives the same kills. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Set by a signal: what runs is finished, so that nothing is left. */
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopped = true;
  });
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);

function report(version: string, { point, deaths, twice, failed, wrong }: Outcome): void {
  const good = failed.length === 0 ? 'ok' : `ok: ${failed.join(', ')} failed and was undone`;
  const text = wrong.length === 0 ? good : wrong.join('; ');
  print(
    `${version.padEnd(5)} ${point.padEnd(44)} ${String(deaths).padStart(6)} ${String(twice).padStart(6)}  ${text}`,
  );
}

/** Numbers of boundaries: all, or as many as are asked for. */
function chosen(count: number): number[] {
  const wanted = values.points === 'all' ? count : Math.min(Number(values.points), count);
  return Array.from({ length: wanted }, (_, index) => 1 + Math.floor((index * count) / wanted));
}

async function atSteps(version: ContainerdVersion, way: Way): Promise<number> {
  const begun = performance.now();
  const sum = { lives: 0, unreached: 0, failed: 0, twice: 0, told: 0 };
  let numbers: number[] | undefined;
  const names = new Set<string>();
  const one = async (): Promise<void> => {
    await using harness = await FaultHarness.start(version);
    const steps = await countSteps(harness);
    numbers ??= chosen(steps.length).filter((n) => n >= Number(values.first) && n <= Number(values.last));
    for (let n = numbers.shift(); n !== undefined && !stopped; n = numbers.shift()) {
      const outcome = await atStep(harness, n, way);
      report(version, outcome);
      sum.lives++;
      sum.unreached += outcome.reached ? 0 : 1;
      sum.failed += outcome.wrong.length > 0 ? 1 : 0;
      sum.told += outcome.failed.length > 0 ? 1 : 0;
      sum.twice += outcome.twice;
      if (outcome.reached) names.add(outcome.point.replace(/^\d+ /, ''));
    }
  };
  await Promise.all(Array.from({ length: Number(values.parallel) }, one));
  const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
  print(
    `${version.padEnd(5)} ${way}: ${sum.lives} lives, each at a boundary of its own (${names.size} names, ${sum.unreached} not reached): ` +
      `${sum.failed} went wrong, ${sum.told} had a call that failed and was undone, ${sum.twice} events came twice; ${minutes} min`,
  );
  return sum.failed;
}

async function atRandom(harness: FaultHarness, version: string): Promise<number> {
  const next = random(Number(values.seed));
  const kills = Number(values.kills);
  const containers = Number(values.containers);
  const begun = performance.now();
  const lasting = [];
  for (let count = Number(values.lasting); count > 0; count--) lasting.push(await harness.lasting());
  const before = harness.deaths;
  let killed = 0;
  let over = false;
  let done = 0;
  const killer = (async () => {
    while (!over && killed < kills) {
      await new Promise((wake) => setTimeout(wake, 50 + next() * 700));
      const pid = harness.wherryd();
      // On a slow machine a call may take as long as some kills.
      if (pid === undefined || over || harness.done < done + 2) continue;
      done = harness.done;
      process.kill(pid, 'SIGKILL');
      killed++;
    }
  })();
  let failed = 0;
  let twice = 0;
  let left = containers;
  const worker = async (): Promise<void> => {
    while (left-- > 0 && !stopped) {
      // Of two lives one has everything.
      const outcome = await life(harness, `random, seed ${values.seed}`, left % 2 === 0 ? { acts } : {});
      twice += outcome.twice;
      if (outcome.wrong.length > 0) report(version, outcome);
      failed += outcome.wrong.length > 0 ? 1 : 0;
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers) }, worker));
  over = true;
  await killer;
  for (const check of lasting) {
    const wrong = await check();
    if (wrong.length > 0)
      report(version, { point: 'lasting', id: '', deaths: 0, twice: 0, failed: [], wrong });
    failed += wrong.length > 0 ? 1 : 0;
  }
  const { keel, wherryd } = harness.load();
  const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
  print(
    `${version.padEnd(5)} ${containers} containers, every second with update, pause and exec, beside ${lasting.length} that lasted; ` +
      `${killed} random kills, ${harness.deaths - before} deaths: ${failed} went wrong, ${twice} events came twice; ${minutes} min; ` +
      `keel ${keel.rss} KiB, ${keel.descriptors} descriptors; wherryd ${wherryd?.rss ?? '-'} KiB, ${wherryd?.descriptors ?? '-'} descriptors`,
  );
  return failed;
}

const chosenWays = values.with.split(',') as Way[];
const unknown = chosenWays.filter((way) => !ways.includes(way));
if (unknown.length > 0) throw new Error(`--with: ${unknown.join(' and ')}; there are ${ways.join(', ')}`);
let failed = 0;
print(`${''.padEnd(5)} ${'boundary'.padEnd(44)} deaths  twice  result`);
for (const version of values.containerd.split(',') as ContainerdVersion[]) {
  if (values.points !== '0' && !stopped) for (const way of chosenWays) failed += await atSteps(version, way);
  if (values.kills === '0' || stopped) continue;
  await using harness = await FaultHarness.start(version);
  failed += await atRandom(harness, version);
}
process.exitCode = failed === 0 ? 0 : 1;
