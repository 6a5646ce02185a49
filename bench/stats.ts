/** What it costs to know what containers use: many of them once a second, and one of them once. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StatsRequest } from '../shim/gen/containerd/task/v2/shim.ts';
import type { Container } from '../shim/gen/wherry/v1/runtime.ts';
import { type CgroupHost, detectCgroups, parseProcCgroup } from '../src/cgroup/hierarchy.ts';
import { openCgroupReader } from '../src/cgroup/reader.ts';
import { StatsHub } from '../src/cgroup/sampler.ts';
import type { ContainerState } from '../src/container/types.ts';
import { makeBundle } from '../test/support/bundle.ts';
import type { Containerd } from '../test/support/containerd.ts';
import type { Peers } from '../test/support/debs.ts';
import { GrpcClient } from '../test/support/grpc-client.ts';
import { uniqueId } from '../test/support/paths.ts';
import { must } from '../test/support/run.ts';
import { ShimCaller } from '../test/support/shim-caller.ts';
import type { Wherry } from '../test/support/wherry.ts';
import { type Goal, print } from './cli-run.ts';
import { processes } from './memory.ts';
import { interleaved, type Summary, summarize } from './statistics.ts';
import { Asked, type Sample, Timed } from './timed.ts';

const WARM_SECONDS = 10;
const MEASURED_SECONDS = 20;
/** sysconf(_SC_CLK_TCK): what /proc/PID/stat counts in. */
const TICKS_PER_SECOND = 100;

/** Shares of one core for a sample a second of each of `count` idle containers: of the sampler, and of wherryd with a gRPC client. */
export async function measureSampling(
  wherry: Wherry,
  count: number,
  goals: Goal[],
): Promise<Record<string, unknown>> {
  await wherry.must(['daemon', 'start']);
  using grpc = new GrpcClient(wherry);
  const bundle = await makeBundle(wherry.folder, 'sampled', ['/bin/sleep', '100000']);
  const ids = Array.from({ length: count }, (_, index) => uniqueId(`s${index}`));
  try {
    for (const id of ids) {
      await grpc.create(id, bundle);
      await grpc.start(id);
    }
    const [daemon] = processes(
      (program, environment) =>
        program.endsWith('/libexec/wherry/node') && environment.includes(`WHERRY_RUN_DIR=${wherry.runDir}`),
    );
    if (daemon === undefined) throw new Error('wherryd was not found');
    const streamed = await overGrpc(grpc, daemon);
    const sampled = await sampler(await Promise.all(ids.map((id) => grpc.container(id))));
    const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
    for (const [what, { perSecond, user, kernel }] of Object.entries({
      sampler: sampled,
      'over gRPC': streamed,
    })) {
      process.stdout.write(
        `${count} containers, ${what}: ${perSecond.toFixed(0)} samples a second, ` +
          `of one core ${percent(user)} user, ${percent(kernel)} kernel\n`,
      );
    }
    goals.push({
      what: `sampling ${count} containers a second, share of a core`,
      ratio: sampled.user,
      goal: 0.05,
    });
    return { containers: count, sampled, streamed };
  } finally {
    for (const id of ids) await wherry.run(['delete', '--force', id]);
  }
}

interface Shares {
  perSecond: number;
  user: number;
  kernel: number;
}

/** wherryd's shares while a client reads the stream of all: sampling, the messages, and their way out. */
async function overGrpc(grpc: GrpcClient, daemon: number): Promise<Shares> {
  const stream = grpc.streamStats('', 1000);
  let samples = 0;
  stream.on('data', () => {
    samples++;
  });
  stream.on('error', () => {});
  try {
    return await measured(
      () => ticks(daemon),
      () => samples,
    );
  } finally {
    stream.cancel();
  }
}

/** The shares of this process while it does nothing but what wherryd does for samples that are due. */
async function sampler(containers: readonly (Container | undefined)[]): Promise<Shares> {
  const host = detectCgroups();
  const readers = new Map(
    containers.map((found) => [found?.id ?? '', openCgroupReader(pathsOf(host, found), host.mode)]),
  );
  let samples = 0;
  const hub = new StatsHub({
    stats: async ({ id }) => readers.get(id)!.sample(),
    find: ({ id }) => ({ key: { id }, status: 'running' }) as ContainerState,
  });
  const ends = [...readers.keys()].map((id) =>
    hub.subscribe(
      { scope: '', namespace: '', id },
      1000,
      () => {
        samples++;
      },
      () => {},
    ),
  );
  try {
    return await measured(
      () => {
        const { user, system } = process.cpuUsage();
        return { user: user / 1e6, kernel: system / 1e6 };
      },
      () => samples,
    );
  } finally {
    for (const end of ends) end();
    for (const reader of readers.values()) reader.close();
  }
}

function pathsOf(host: CgroupHost, container: Container | undefined): Record<string, string> {
  const own = parseProcCgroup(readFileSync(`/proc/${container?.pid}/cgroup`, 'utf8'));
  const all = host.unified === undefined ? host.hierarchies : [...host.hierarchies, host.unified];
  return Object.fromEntries(
    all.flatMap(({ controllers, mountPoint }) =>
      (controllers.length === 0 ? [''] : controllers).map((name) => [
        name,
        `${mountPoint}${own[name] ?? ''}`,
      ]),
    ),
  );
}

/** Warm first. */
async function measured(used: () => { user: number; kernel: number }, count: () => number): Promise<Shares> {
  await sleep(WARM_SECONDS * 1000);
  const [before, from, started] = [used(), count(), performance.now()];
  await sleep(MEASURED_SECONDS * 1000);
  const [after, to] = [used(), count()];
  const seconds = (performance.now() - started) / 1000;
  return {
    perSecond: (to - from) / seconds,
    user: (after.user - before.user) / seconds,
    kernel: (after.kernel - before.kernel) / seconds,
  };
}

/** Seconds since its start. */
function ticks(pid: number): { user: number; kernel: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { user: Number(fields[11]) / TICKS_PER_SECOND, kernel: Number(fields[12]) / TICKS_PER_SECOND };
}

const OVER_GRPC = 'wherry over gRPC';
const OVER_TTRPC = 'wherry over ttrpc';
const TTRPC_BY_NODE = 'wherry over ttrpc, by Node';
const GRPC_BY_NODE = 'wherry over gRPC, by Node';
/** As who collects the statistics of a node asks: for one container after the other. */
const IN_A_ROW = 10;
const inARow = (name: string): string => `${name}, ${IN_A_ROW} in a row`;

/**
 * Stats of one running container: by command beside runc's, and over a connection that is open, gRPC or containerd's ttrpc. Commands
 * and calls are timed by native programs, until the process or the answer is there: neither figure has what is done with the text or
 * the message. The same calls by clients in Node, which spend as long again, are shown beside them.
 */
export async function measureStats(
  peers: Peers,
  wherry: Wherry,
  containerd: Containerd,
  runs: number,
  goals: Goal[],
): Promise<Record<string, unknown>> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const tools = {
    wherry: { command: [wherry.command], env: wherry.env },
    runc: { command: [peers.runc, '--root', join(wherry.folder, 'stats-runc')], env },
  };
  const names = Object.keys(tools) as (keyof typeof tools)[];
  const id = uniqueId('stats');
  const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '100000'], (config) => {
    config.process['rlimits'] = [];
  });
  const launchers = { wherry: new Timed(tools.wherry.env), runc: new Timed(tools.runc.env) };
  const rows = ['runc', OVER_GRPC, OVER_TTRPC];
  const others = [GRPC_BY_NODE, TTRPC_BY_NODE];
  const samplesMs: Record<string, number[]> = Object.fromEntries(
    ['wherry', ...rows, ...rows.map(inARow), ...others].map((name) => [name, []]),
  );
  try {
    for (const name of names) {
      const [program = '', ...globals] = tools[name].command;
      await must(program, [...globals, 'run', '-d', '-b', bundle, `${id}-${name}`], {
        env: tools[name].env,
        outputFile: join(bundle, 'out'),
      });
    }
    const sample = async (name: keyof typeof tools) => {
      const taken = await launchers[name].run([...tools[name].command, 'events', '--stats', `${id}-${name}`]);
      if (taken.status !== 0) throw new Error(`events --stats with ${name}: wait status ${taken.status}`);
      return taken.nanoseconds / 1e6;
    };
    for (const name of names) for (let round = 0; round < 10; round++) await sample(name);
    using grpc = new GrpcClient(wherry);
    await using caller = new ShimCaller(containerd);
    const task = await caller.make('stats', ['/bin/sleep', '100000']);
    using asked = new Asked();
    const grpcSocket = join(wherry.runDir, 'grpc.sock');
    const request = (of: string): Uint8Array => StatsRequest.encode({ id: of }).finish();
    const ofNode = async (call: () => Promise<unknown>): Promise<number> => {
      const started = performance.now();
      await call();
      return performance.now() - started;
    };
    const native = async (sampled: Promise<Sample>): Promise<number> => {
      const { nanoseconds, status } = await sampled;
      if (status !== 0) throw new Error('a call of Stats failed');
      return nanoseconds / 1e6;
    };
    const calls: Record<string, () => Promise<number>> = {
      [OVER_GRPC]: () =>
        native(asked.grpc(grpcSocket, 'containerd.task.v3.Task', 'Stats', request(`${id}-wherry`))),
      [OVER_TTRPC]: () =>
        native(asked.ttrpc(task.address, 'containerd.task.v2.Task', 'Stats', request(task.id))),
      [GRPC_BY_NODE]: () => ofNode(() => grpc.stats(`${id}-wherry`)),
      [TTRPC_BY_NODE]: () => ofNode(() => task.client.call('Stats', { id: task.id })),
      wherry: () => sample('wherry'),
      runc: () => sample('runc'),
    };
    for (const name of [OVER_GRPC, OVER_TTRPC, ...others])
      for (let round = 0; round < 200; round++) await calls[name]?.();
    const once = async (name: string): Promise<number> => (await calls[name]?.()) ?? Number.NaN;
    await interleaved(Object.keys(samplesMs), runs, async (name) => {
      const row = rows.find((one) => inARow(one) === name);
      let taken = 0;
      for (let round = 0; round < (row === undefined ? 1 : IN_A_ROW); round++)
        taken += await once(row ?? name);
      samplesMs[name]?.push(row === undefined ? taken : taken / IN_A_ROW);
    });
  } finally {
    for (const name of names) {
      launchers[name][Symbol.dispose]();
      const [program = '', ...globals] = tools[name].command;
      await must(program, [...globals, 'delete', '--force', `${id}-${name}`], { env: tools[name].env });
    }
  }
  const summary: Record<string, Summary> = Object.fromEntries(
    Object.entries(samplesMs).map(([name, samples]) => [name, summarize(samples)]),
  );
  print('events --stats (ms)', summary);
  const median = (name: string): number => summary[name]?.median ?? Number.NaN;
  // A command of ours is a process, as runc's is; whoever asks often asks over a connection.
  goals.push({ what: 'events --stats: wherry / runc', ratio: median('wherry') / median('runc'), goal: 0.5 });
  for (const name of [OVER_GRPC, OVER_TTRPC]) {
    const ratio = median(name) / median('runc');
    goals.push({ what: `stats of one container: ${name} / runc events --stats`, ratio, goal: 0.1 });
    const row = median(inARow(name)) / median(inARow('runc'));
    goals.push({ what: `stats of one container: ${inARow(name)} / runc's`, ratio: row, goal: 0.1 });
  }
  return { samplesMs, summary };
}
