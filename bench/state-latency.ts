/** How long State takes while a sibling of the pod is being created for 10 s (a hook that sleeps), beside an idle node. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Containerd } from '../test/support/containerd.ts';
import { uniqueId } from '../test/support/paths.ts';
import { type Made, ShimCaller } from '../test/support/shim-caller.ts';
import { type Goal, print } from './cli-run.ts';
import { summarize } from './statistics.ts';

const CREATE_S = 10;
/** Between two calls, as of somebody who looks often. */
const PAUSE_MS = 2;

export async function measureState(containerd: Containerd, goals: Goal[]): Promise<Record<string, unknown>> {
  await using caller = new ShimCaller(containerd);
  const annotations = { 'io.kubernetes.cri.sandbox-id': uniqueId('pod') };
  const hook = join(containerd.folder, uniqueId('hook'));
  writeFileSync(hook, `#!/bin/sh\ncat > /dev/null\nexec sleep ${CREATE_S}\n`);
  chmodSync(hook, 0o755);
  const pod = await caller.make('pod', ['/bin/sleep', '1000'], {
    edit: (config) => Object.assign(config, { annotations }),
  });
  await sample(pod, CREATE_S * 100);
  const idle = await sample(pod, CREATE_S * 1000);
  const slow = caller.make('slow', ['/bin/true'], {
    edit: (config) => Object.assign(config, { annotations, hooks: { createRuntime: [{ path: hook }] } }),
  });
  const busy = await sample(pod, CREATE_S * 1000);
  await slow;
  const samples = { idle, 'during a Create': busy };
  print(
    'State (ms)',
    Object.fromEntries(Object.entries(samples).map(([name, one]) => [name, summarize(one)])),
  );
  const p99 = { idle: percentile(idle, 0.99), busy: percentile(busy, 0.99) };
  process.stdout.write(`p99: idle ${p99.idle.toFixed(3)} ms, during a Create ${p99.busy.toFixed(3)} ms\n`);
  goals.push({
    what: 'p99 of State: during a 10 s Create of a sibling / idle',
    ratio: p99.busy / p99.idle,
    goal: 2,
  });
  return { samplesMs: samples, p99 };
}

async function sample({ client, id }: Made, milliseconds: number): Promise<number[]> {
  const found: number[] = [];
  for (const end = performance.now() + milliseconds; performance.now() < end; ) {
    const before = performance.now();
    await client.call('State', { id });
    found.push(performance.now() - before);
    await new Promise((wake) => setTimeout(wake, PAUSE_MS));
  }
  return found;
}

function percentile(samples: readonly number[], part: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}
