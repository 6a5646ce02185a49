/** A whole life of a container in which something befalls wherryd at the n-th boundary between two of its steps (src/fault.ts). */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { uniqueId } from '../support/paths.ts';
import { eventually, must } from '../support/run.ts';
import type { FaultHarness } from './harness.ts';
import { acts, LIMIT, life, type Outcome } from './life.ts';

/** SIGKILL, SIGKILL and then again while the next wherryd takes up what there is, an error thrown, SIGSTOP, V8's heap used up, a memory cgroup that is too small, no descriptor left. */
export const ways = ['kill', 'kill-twice', 'throw', 'stop', 'heap', 'memory', 'descriptors'] as const;
export type Way = (typeof ways)[number];

export interface StepOutcome extends Outcome {
  /** False: this life had fewer boundaries. */
  reached: boolean;
}

/** What a caller may be told; of a death it hears nothing. */
const TOLD: Partial<Record<Way, RegExp>> = {
  throw: /a fault is injected/,
  descriptors: /too many open files/i,
};
/** The second death comes at one of so many boundaries of the next wherryd. */
const LATER = 40;
/** ms without a descriptor. */
const STARVED = 1000;

/** The boundaries that a life passes when nothing befalls it. */
export async function countSteps(harness: FaultHarness): Promise<string[]> {
  harness.armSteps({ n: 0, act: 'kill' });
  const { wrong } = await life(harness, 'none', { acts });
  const { passed } = harness.disarmSteps();
  if (wrong.length > 0) throw new Error(`a life without faults: ${wrong.join('; ')}`);
  return passed;
}

export async function atStep(harness: FaultHarness, n: number, way: Way): Promise<StepOutcome> {
  const starves = way === 'memory' || way === 'descriptors';
  if (way === 'kill-twice') harness.armSteps({ n, act: 'kill' }, { n: 1 + ((n * 7) % LATER), act: 'kill' });
  else harness.armSteps({ n, act: starves ? 'stop' : way });
  const over = new AbortController();
  const starving = starves ? starve(harness, way, over.signal) : Promise.resolve();
  const mayFail = TOLD[way];
  const before = harness.deaths;
  const outcome = await life(harness, '', {
    acts,
    lasting: starves,
    ...(mayFail !== undefined && { mayFail }),
  });
  over.abort();
  await starving;
  const { passed, struck } = harness.disarmSteps();
  const reached = struck.length > 0;
  const point = `${n} ${way}: ${reached ? passed.at(-1) : 'not reached'}`;
  const { wrong } = outcome;
  const most = way === 'descriptors' || !reached ? 0 : way === 'kill-twice' ? 2 : 1;
  const least = way === 'throw' || way === 'memory' ? 0 : Math.min(most, 1);
  // It may have been the last step of all, after which nobody waited.
  await eventually('it has died', () => harness.deaths - before >= least || undefined, LIMIT);
  const deaths = harness.deaths - before;
  if (deaths > most) wrong.push(`${deaths} wherryds have died`);
  await eventually('wherryd is ready', () => harness.wherryd(), LIMIT);
  return { ...outcome, deaths, point, reached };
}

/** Waits until wherryd has stopped itself, takes from it what it is to lack, and lets it go on. */
async function starve(harness: FaultHarness, way: Way, over: AbortSignal): Promise<void> {
  while (harness.struck().length === 0) {
    if (over.aborted) return;
    await new Promise((wake) => setTimeout(wake, 10));
  }
  const pid = harness.child();
  await eventually('it has stopped', () => /^State:\s+T/m.test(statusOf(pid)) || undefined);
  if (way === 'memory') return starveOfMemory(pid, over);
  const soft = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'latin1'))?.[1] ?? '';
  await must('prlimit', ['--pid', String(pid), '--nofile=3:']);
  process.kill(pid, 'SIGCONT');
  await new Promise((wake) => setTimeout(wake, STARVED));
  await must('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
}

/** The kernel kills it when it wants a page more; where it wants none it goes back to where it was. */
async function starveOfMemory(pid: number, over: AbortSignal): Promise<void> {
  const v1 = '/sys/fs/cgroup/memory';
  const isV1 = existsSync(join(v1, 'memory.limit_in_bytes'));
  const root = isV1 ? v1 : '/sys/fs/cgroup';
  const line = (isV1 ? /^\d+:memory:(.*)$/m : /^0::(.*)$/m).exec(
    readFileSync(`/proc/${pid}/cgroup`, 'latin1'),
  );
  const home = join(root, line?.[1] ?? '/');
  const group = join(root, uniqueId('small'));
  mkdirSync(group);
  writeFileSync(join(group, isV1 ? 'memory.limit_in_bytes' : 'memory.max'), '65536');
  writeFileSync(join(group, 'cgroup.procs'), String(pid));
  process.kill(pid, 'SIGCONT');
  while (!over.aborted && existsSync(`/proc/${pid}`)) await new Promise((wake) => setTimeout(wake, 20));
  await eventually('its cgroup is gone', () => {
    for (const member of readFileSync(join(group, 'cgroup.procs'), 'latin1').match(/\d+/g) ?? [])
      writeFileSync(join(home, 'cgroup.procs'), member);
    rmdirSync(group);
    return true;
  });
}

function statusOf(pid: number): string {
  return readFileSync(`/proc/${pid}/status`, 'latin1');
}
