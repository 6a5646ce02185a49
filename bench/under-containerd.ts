/** `ctr run --rm` with Wherry beside io.containerd.runc.v2 and beside a shim that does nothing; and what idle containers cost. */
import type { Containerd } from '../test/support/containerd.ts';
import { imageName } from '../test/support/image.ts';
import { uniqueId } from '../test/support/paths.ts';
import { type Goal, print } from './cli-run.ts';
import { processes, pss } from './memory.ts';
import { interleaved, type Summary, summarize, WARM_ROUNDS } from './statistics.ts';
import { Timed } from './timed.ts';

const runtimes: Record<string, string> = {
  wherry: 'io.containerd.wherry.v1',
  'runc.v2': 'io.containerd.runc.v2',
  nothing: 'io.containerd.benchnull.v1',
};

interface CtrResult {
  order: string[];
  samplesMs: Record<string, number[]>;
  summary: Record<string, Summary>;
}

export async function measureCtr(containerd: Containerd, runs: number, goals: Goal[]): Promise<CtrResult> {
  using timed = new Timed({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' });
  const command = (runtime: string): string[] => [
    ...[containerd.ctrPath, ...containerd.globalFlags, 'run', '--rm', '--runtime', runtime],
    ...[imageName, uniqueId('bench'), '/bin/true'],
  ];
  const samplesMs: Record<string, number[]> = {};
  for (const [name, runtime] of Object.entries(runtimes)) {
    samplesMs[name] = [];
    for (let round = 0; round < WARM_ROUNDS; round += 1) await timed.run(command(runtime));
  }
  const order = await interleaved(Object.keys(runtimes), runs, async (name) => {
    const sample = await timed.run(command(runtimes[name] ?? ''));
    if (sample.status !== 0)
      throw new Error(`ctr run with ${name}: wait status ${sample.status}\n${containerd.tail()}`);
    samplesMs[name]?.push(sample.nanoseconds / 1e6);
  });
  const summary = Object.fromEntries(
    Object.entries(samplesMs).map(([name, samples]) => [name, summarize(samples)]),
  );
  print('ctr run --rm (ms)', summary);
  const median = (name: string): number => summary[name]?.median ?? Number.NaN;
  goals.push({
    what: 'ctr run --rm: wherry / runc.v2',
    ratio: median('wherry') / median('runc.v2'),
    goal: 0.5,
  });
  return { order, samplesMs, summary };
}

/** Kilobytes of PSS with `count` idle containers: keel and wherryd, and the shims of runc.v2. */
export async function measureMemory(
  containerd: Containerd,
  count: number,
  goals: Goal[],
): Promise<Record<string, unknown>> {
  const ours = (environment: readonly string[]): boolean =>
    environment.includes(`WHERRY_RUN_DIR=${containerd.runDir}`);
  const wherry = await withContainers(containerd, 'io.containerd.wherry.v1', count, () =>
    processes((program, environment) => ours(environment) && /\/libexec\/wherry\/(keel|node)$/.test(program)),
  );
  const runc = await withContainers(containerd, 'io.containerd.runc.v2', count, () =>
    processes(
      (_, environment, command) =>
        ours(environment) && (command[0] ?? '').endsWith('containerd-shim-runc-v2'),
    ),
  );
  process.stdout.write(
    `\n${count} idle containers, PSS: wherry ${wherry.kib} KiB in ${wherry.processes} processes, `,
  );
  process.stdout.write(
    `runc.v2 ${runc.kib} KiB in ${runc.processes} shims (${(runc.kib / count).toFixed(0)} KiB each)\n`,
  );
  goals.push({
    what: `PSS with ${count} idle containers: wherry / runc.v2`,
    ratio: wherry.kib / runc.kib,
    goal: 0.35,
  });
  return { containers: count, wherry, runc };
}

async function withContainers(
  containerd: Containerd,
  runtime: string,
  count: number,
  find: () => number[],
): Promise<{ kib: number; processes: number }> {
  const ids = Array.from({ length: count }, (_, index) => uniqueId(`idle${index}`));
  try {
    for (const id of ids)
      await containerd.mustCtr([
        'run',
        '-d',
        '--null-io',
        '--runtime',
        runtime,
        imageName,
        id,
        '/bin/sleep',
        '100000',
      ]);
    const pids = find();
    if (pids.length === 0) throw new Error(`no process of ${runtime} found`);
    return { kib: pss(pids), processes: pids.length };
  } finally {
    for (const id of ids) {
      await containerd.ctr(['task', 'rm', '--force', id]);
      await containerd.ctr(['container', 'rm', id]);
    }
  }
}
