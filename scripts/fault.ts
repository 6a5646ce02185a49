/**
 * `npm run fault -- [--points all|N] [--kills K] [--containers C] [--workers W] [--lasting L] [--seed S] [--containerd 2.1,1.6]`: kills wherryd
 * while a real containerd runs containers and execs, W at a time beside L that outlive all kills, and prints what was checked. Needs root and a
 * built tree. Exit code 1: something was lost.
 */
import { parseArgs } from 'node:util';
import { FaultHarness, type Outcome } from '../test/fault/harness.ts';
import { cases } from '../test/fault/points.ts';
import type { ContainerdVersion } from '../test/support/debs.ts';

const { values } = parseArgs({
  options: {
    points: { type: 'string', default: 'all' },
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

const print = (line: string): void => void process.stdout.write(`${line}\n`);

function report(version: string, outcome: Outcome): void {
  const text = outcome.wrong.length === 0 ? 'ok' : outcome.wrong.join('; ');
  print(
    `${version.padEnd(5)} ${outcome.point.padEnd(28)} ${String(outcome.deaths).padStart(6)} ${String(outcome.twice).padStart(6)}  ${text}`,
  );
}

async function atPoints(harness: FaultHarness, version: string): Promise<number> {
  const all = cases();
  const chosen = values.points === 'all' ? all : all.slice(0, Number(values.points));
  let failed = 0;
  for (const { point, act } of chosen) {
    const outcome = await harness.life(`${point} (${act})`, (next) => {
      if (next === act) harness.arm(point);
    });
    if (harness.armed(point)) outcome.wrong.push('the point was not reached');
    report(version, outcome);
    failed += outcome.wrong.length > 0 ? 1 : 0;
  }
  return failed;
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
    while (left-- > 0) {
      const outcome = await harness.life(`random, seed ${values.seed}`, undefined, left % 2 === 0);
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
    if (wrong.length > 0) report(version, { point: 'lasting', id: '', deaths: 0, twice: 0, wrong });
    failed += wrong.length > 0 ? 1 : 0;
  }
  const { keel, wherryd } = harness.load();
  const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
  print(
    `${version.padEnd(5)} ${containers} containers, every second with an exec, beside ${lasting.length} that lasted; ${killed} random kills, ` +
      `${harness.deaths - before} deaths: ${failed} went wrong, ${twice} events came twice; ${minutes} min; ` +
      `keel ${keel.rss} KiB, ${keel.descriptors} descriptors; wherryd ${wherryd?.rss ?? '-'} KiB, ${wherryd?.descriptors ?? '-'} descriptors`,
  );
  return failed;
}

let failed = 0;
print(`${''.padEnd(5)} ${'point (act)'.padEnd(28)} deaths  twice  result`);
for (const version of values.containerd.split(',') as ContainerdVersion[]) {
  await using harness = await FaultHarness.start(version);
  if (values.points !== '0') failed += await atPoints(harness, version);
  if (values.kills !== '0') failed += await atRandom(harness, version);
}
process.exitCode = failed === 0 ? 0 : 1;
