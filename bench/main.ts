/**
 * `npm run bench [-- --json FILE] [--runs N] [--containers N] [--only run,cold,ctr,memory,sampling,stats,limit,state]
 * [--containerd 1.6|1.7|2.1]`: Wherry beside runc, crun and
 * containerd-shim-runc-v2, all in one run on one machine, interleaved. What lives here: measuring. What may not: tests.
 */
import { writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { buildAll } from '../scripts/build.ts';
import { Containerd } from '../test/support/containerd.ts';
import { containerdVersions, peers } from '../test/support/debs.ts';
import { must } from '../test/support/run.ts';
import { Wherry } from '../test/support/wherry.ts';
import { measureCold, measureRun } from './cli-run.ts';
import { contestants } from './contestants.ts';
import { measureLimit } from './limit.ts';
import { measureState } from './state-latency.ts';
import { measureSampling, measureStats } from './stats.ts';
import { buildNative, nativeFolder } from './timed.ts';
import { measureCtr, measureMemory } from './under-containerd.ts';

/** As many as are promised. */
const SAMPLED = 500;

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    runs: { type: 'string', default: '30' },
    containers: { type: 'string', default: '50' },
    only: { type: 'string', default: 'run,cold,ctr,memory,sampling,stats,limit,state' },
    containerd: { type: 'string', default: '1.7' },
  },
});
const runs = Number(values.runs);
const containers = Number(values.containers);
if (!Number.isInteger(runs) || runs < 1)
  throw new Error('--runs: a whole number, at least 1 (20 or more for figures that are shown)');
if (!Number.isInteger(containers) || containers < 1)
  throw new Error('--containers: a whole number, at least 1');
const parts = values.only.split(',');
const version = containerdVersions.find((one) => one === values.containerd);
if (version === undefined) throw new Error(`--containerd: one of ${containerdVersions.join(', ')}`);

await buildAll();
await buildNative();
const found = await peers();
const report: Record<string, unknown> = {
  machine: {
    kernel: release(),
    architecture: arch(),
    processors: cpus().length,
    model: cpus()[0]?.model,
    when: new Date().toISOString(),
  },
};
const goals: { what: string; ratio: number; goal: number }[] = [];

if (['run', 'cold', 'limit'].some((part) => parts.includes(part))) {
  await using wherry = new Wherry();
  const all = await contestants(found, wherry);
  try {
    report['versions'] = Object.fromEntries(all.map((one) => [one.name, one.version]));
    for (const one of all) process.stdout.write(`${one.name}: ${one.version}\n`);
    if (parts.includes('run')) report['run'] = await measureRun(all, wherry.folder, runs, goals);
    if (parts.includes('cold')) report['cold'] = await measureCold(wherry);
    if (parts.includes('limit')) report['limit'] = await measureLimit(all, wherry.folder, goals);
  } finally {
    for (const one of all) one[Symbol.dispose]();
  }
}
if (parts.includes('sampling')) {
  await using wherry = new Wherry();
  report['sampling'] = await measureSampling(wherry, SAMPLED, goals);
}
if (['ctr', 'memory', 'state', 'stats'].some((part) => parts.includes(part))) {
  await using containerd = await Containerd.start(version, { path: [nativeFolder] });
  report['containerd'] = (await must(`${found.containerd(version)}/containerd`, ['--version'])).stdout.trim();
  process.stdout.write(`${report['containerd']}\n`);
  if (parts.includes('ctr')) report['ctr'] = await measureCtr(containerd, runs, goals);
  if (parts.includes('stats')) {
    await using wherry = new Wherry();
    report['stats'] = await measureStats(found, wherry, containerd, runs, goals);
  }
  if (parts.includes('state')) report['state'] = await measureState(containerd, goals);
  if (parts.includes('memory')) report['memory'] = await measureMemory(containerd, containers, goals);
}

process.stdout.write('\n');
for (const { what, ratio, goal } of goals) {
  process.stdout.write(
    `${ratio <= goal ? 'reached' : 'MISSED '}  ${what}: ${ratio.toFixed(2)} (goal: at most ${goal})\n`,
  );
}
report['goals'] = goals;
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
