/** `wherry run` beside `runc run` and `crun run` on the same bundle: `runc spec` with terminal false, busybox, /bin/true. */

import { join } from 'node:path';
import { dockerSeccomp } from '../src/oci/docker-profile.ts';
import { makeBundle } from '../test/support/bundle.ts';
import { uniqueId } from '../test/support/paths.ts';
import { eventually, run } from '../test/support/run.ts';
import type { Wherry } from '../test/support/wherry.ts';
import type { Contestant } from './contestants.ts';
import { type Readback, readBack, readbackScript } from './readback.ts';
import { interleaved, type Summary, summarize, WARM_ROUNDS } from './statistics.ts';
import { Timed } from './timed.ts';

export interface Goal {
  what: string;
  ratio: number;
  goal: number;
}

interface Measured {
  order: string[];
  samplesMs: Record<string, number[]>;
  summary: Record<string, Summary>;
  maxRssKiB: Record<string, number>;
  readback: Record<string, Readback>;
}

/** Milliseconds; without and with docker's seccomp rules. */
export async function measureRun(
  all: readonly Contestant[],
  folder: string,
  runs: number,
  goals: Goal[],
): Promise<Record<string, Measured>> {
  const results: Record<string, Measured> = {};
  for (const profile of ['plain', 'seccomp'] as const) {
    const withProfile = (config: { process: object; linux: Record<string, unknown> }): void => {
      config.linux['cgroupsPath'] = `/${uniqueId('bench')}`;
      if (profile === 'seccomp') {
        const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
        config.linux['seccomp'] = dockerSeccomp(
          ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'],
          machine,
        );
      }
    };
    const bundle = await makeBundle(folder, `bench-${profile}`, ['/bin/true'], withProfile);
    const inspected = await makeBundle(
      folder,
      `inspect-${profile}`,
      ['/bin/sh', '-c', readbackScript],
      withProfile,
    );
    const measured: Measured = { order: [], samplesMs: {}, summary: {}, maxRssKiB: {}, readback: {} };
    const byName = new Map(all.map((one) => [one.name, one]));
    for (const one of all) {
      measured.readback[one.name] = await readBack(one, inspected, uniqueId('inspect'));
      measured.samplesMs[one.name] = [];
      for (let round = 0; round < WARM_ROUNDS; round += 1)
        await one.timed.run(one.command(bundle, uniqueId('warm')));
    }
    measured.order = await interleaved([...byName.keys()], runs, async (name) => {
      const one = byName.get(name)!;
      const sample = await one.timed.run(one.command(bundle, uniqueId('bench')));
      if (sample.status !== 0) throw new Error(`${name} run: wait status ${sample.status}`);
      measured.samplesMs[name]?.push(sample.nanoseconds / 1e6);
      measured.maxRssKiB[name] = Math.max(measured.maxRssKiB[name] ?? 0, sample.maxRssKiB);
    });
    for (const [name, samples] of Object.entries(measured.samplesMs))
      measured.summary[name] = summarize(samples);
    print(
      `run, /bin/true, ${profile === 'plain' ? 'no seccomp' : "docker's seccomp rules"} (ms)`,
      measured.summary,
    );
    for (const [name, what] of Object.entries(measured.readback)) {
      process.stdout.write(
        `  ${name}: ${what.mounts} mounts, cgroups ${what.cgroups.join(' ')}, ${what.privileges}\n`,
      );
    }
    const median = (name: string): number => measured.summary[name]?.median ?? Number.NaN;
    goals.push({
      what: `wherry run / crun run, ${profile}`,
      ratio: median('wherry') / median('crun'),
      goal: 0.8,
    });
    goals.push({
      what: `wherry run / runc run, ${profile}`,
      ratio: median('wherry') / median('runc'),
      goal: 0.35,
    });
    results[profile] = measured;
  }
  return results;
}

/** The first command after the daemon has ended: starts keel and wherryd on its way. Milliseconds. */
export async function measureCold(wherry: Wherry): Promise<{ samplesMs: number[]; summary: Summary }> {
  const bundle = await makeBundle(wherry.folder, 'cold', ['/bin/true']);
  using timed = new Timed(wherry.env);
  const samplesMs: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    await wherry.must(['daemon', 'stop', '--force']);
    // The end of the old daemon is not part of the new one's start.
    await eventually('the old daemon has ended', async () => {
      const { code } = await run('flock', ['--nonblock', join(wherry.runDir, 'keel.lock'), 'true']);
      return code === 0 || undefined;
    });
    const sample = await timed.run([wherry.command, 'run', '--bundle', bundle, uniqueId('cold')]);
    if (sample.status !== 0) throw new Error(`cold wherry run: wait status ${sample.status}`);
    samplesMs.push(sample.nanoseconds / 1e6);
  }
  const summary = summarize(samplesMs);
  print('cold: the first command, which starts the daemon (ms)', { wherry: summary });
  return { samplesMs, summary };
}

export function print(title: string, rows: Record<string, Summary>): void {
  process.stdout.write(`\n${title}\n`);
  const width = Math.max(...Object.keys(rows).map((name) => name.length));
  for (const [name, row] of Object.entries(rows)) {
    const cells = [
      `median ${row.median.toFixed(2)}`,
      `min ${row.minimum.toFixed(2)}`,
      `p90 ${row.p90.toFixed(2)}`,
      `n ${row.runs}`,
    ];
    process.stdout.write(`  ${name.padEnd(width)}  ${cells.map((cell) => cell.padEnd(15)).join(' ')}\n`);
  }
}
