/** `stats`: processor time, memory and processes of containers, as a table or as JSON lines. */
import type { CgroupStats, CgroupV1Stats, CgroupV2Stats } from '../../cgroup/stats.ts';
import { keyName } from '../../container/key.ts';
import type { ContainerKey, ContainerState } from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import type { CommandContext } from '../context.ts';
import { parseDuration } from '../duration.ts';
import { namedContainer } from '../names.ts';
import { shown } from '../parse.ts';
import { peopleTable } from '../people-table.ts';

const SHORTEST_MS = 100;
const HEAD = ['ID', 'NAMESPACE', 'CPU', 'MEMORY / LIMIT', 'PIDS'];

interface Sample {
  /** performance.now() */
  at: number;
  /** Of processor time, ns. */
  used: bigint;
  memory: bigint;
  /** undefined: none. */
  limit: bigint | undefined;
  pids: number;
}

interface Row {
  id: string;
  namespace: string;
  /** Of one processor. */
  cpuPercent: number | undefined;
  memory: number;
  memoryLimit: number | undefined;
  pids: number;
}

export async function statsCommand(context: CommandContext): Promise<number> {
  const { deps, flags, session, args } = context;
  const interval = intervalOf(flags.text('interval'));
  const chosen = (): ContainerState[] => {
    if (args.length > 0) return [...new Set(args)].map((name) => namedContainer(context, name));
    return deps.runtime.list().filter(({ status }) => status === 'running' || status === 'paused');
  };
  let before = await sampleAll(context, chosen());
  let first = true;
  do {
    // A share of processor time needs two samples.
    await pause(interval, session.signal);
    if (session.signal.aborted) return 0;
    const states = chosen();
    const now = await sampleAll(context, states);
    const rows = states.flatMap(({ key }) => rowOf(key, now.get(keyName(key)), before.get(keyName(key))));
    show(context, rows, first);
    first = false;
    before = now;
  } while (!flags.on('no-stream') && !session.signal.aborted && before.size > 0);
  return 0;
}

function intervalOf(text: string | undefined): number {
  const interval = text === undefined ? 1000 : parseDuration(text);
  if (interval !== undefined && interval >= SHORTEST_MS && interval < 2 ** 31) return interval;
  throw new WherryError('invalid-argument', `invalid value "${shown(text ?? '')}" for flag --interval`, {
    path: '--interval',
    hint: 'write a time such as 500ms or 5s, at least 100ms',
  });
}

/** By keyName. */
type Samples = Map<string, Sample>;

async function sampleAll({ deps }: CommandContext, states: readonly ContainerState[]): Promise<Samples> {
  const samples: Samples = new Map();
  for (const { key } of states) {
    try {
      samples.set(keyName(key), toSample(await deps.runtime.stats(key)));
    } catch (error) {
      // It ended meanwhile, or has no cgroup: the others are of interest still.
      if (!(error instanceof WherryError)) throw error;
    }
  }
  return samples;
}

function toSample(stats: CgroupStats): Sample {
  const { used, memory, limit } = stats.version === 1 ? ofV1(stats) : ofV2(stats);
  return {
    at: performance.now(),
    used,
    memory: memory ?? 0n,
    limit: limit === undefined || limit > 2n ** 62n ? undefined : limit,
    pids: Number(stats.pids?.current ?? 0),
  };
}

const ofV1 = ({ cpu, memory }: CgroupV1Stats) => ({
  used: cpu?.total ?? 0n,
  memory: memory?.usage?.usage,
  limit: memory?.usage?.limit,
});

const ofV2 = ({ cpu, memory }: CgroupV2Stats) => ({
  used: (cpu?.stat['usage_usec'] ?? 0n) * 1000n,
  memory: memory?.usage,
  limit: memory?.usageLimit,
});

function rowOf(key: ContainerKey, now: Sample | undefined, before: Sample | undefined): Row[] {
  if (now === undefined) return [];
  const passed = before === undefined ? 0 : (now.at - before.at) * 1e6;
  const used = before === undefined ? 0 : Number(now.used - before.used);
  return [
    {
      id: key.id,
      namespace: key.namespace,
      cpuPercent: passed > 0 ? Math.round((used / passed) * 10_000) / 100 : undefined,
      memory: Number(now.memory),
      memoryLimit: now.limit === undefined ? undefined : Number(now.limit),
      pids: now.pids,
    },
  ];
}

/** Home and all below gone (console_codes(4)): on a terminal each sample stands where the last one stood. */
const AGAIN = '\u001b[H\u001b[J';
const CLEAR = '\u001b[2J\u001b[H';

function show({ flags, print, session }: CommandContext, rows: readonly Row[], first: boolean): void {
  if (flags.text('format') === 'json') {
    print(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return;
  }
  const cells = rows.map(({ id, namespace, cpuPercent, memory, memoryLimit, pids }) => [
    id,
    namespace,
    cpuPercent === undefined ? '-' : `${cpuPercent.toFixed(2)}%`,
    `${size(memory)} / ${memoryLimit === undefined ? 'no limit' : size(memoryLimit)}`,
    String(pids),
  ]);
  const stays = session.request.isTerminal[1] && !flags.on('no-stream');
  const place = first ? CLEAR : AGAIN;
  print((stays ? place : '') + peopleTable(session, [HEAD, ...cells]));
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function size(bytes: number): string {
  let power = 0;
  while (bytes / 1024 ** power >= 1024 && power < UNITS.length - 1) power += 1;
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${UNITS[power]}`;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}
