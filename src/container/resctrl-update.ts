/**
 * New cache and bandwidth schemas for a container that runs (`update --l3-cache-schema`, `--mem-bw-schema`). One that has no group of resctrl
 * yet gets its own, and all its threads go there: the file `tasks` takes one thread at a time (resctrl.rst).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { WherryError } from '../errors.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError } from '../tape/outcome.ts';
import { Program } from './compile/program.ts';
import { makeResctrlGroup } from './compile/resctrl.ts';
import type { PlayHost } from './play.ts';
import { mountedResctrl, type ResctrlPlan, resctrlPlan } from './resctrl.ts';

/** Lines of the file `schemata`, without newline: `L3:0=f`, `MB:0=50`. */
export interface ResctrlChange {
  l3CacheSchema?: string;
  memBwSchema?: string;
}

export interface ResctrlUpdateDependencies {
  host: PlayHost;
  nextToken(): bigint;
  /** Every process of the container, now. */
  pids(): number[];
  /** Remembers a group that is about to be made, so that a delete takes it away. */
  remember(groups: { tasks: string[]; remove: string[] }): void;
}

const DEADLINE_MS = 10_000;
/** Threads that were born while others moved are found by the next look. */
const LOOKS = 5;

/** Returns what takes it back. @throws WherryError failed-precondition: this host has no such thing; the words are runc's */
export async function updateResctrl(
  id: string,
  groups: { tasks: string[]; remove: string[] } | undefined,
  change: ResctrlChange,
  { host, nextToken, pids, remember }: ResctrlUpdateDependencies,
): Promise<() => Promise<void>> {
  const plan = planChange(id, groups, change, mountedResctrl());
  const play = async (tape: AssembledTape): Promise<WherryError | undefined> =>
    playError(tape, await host.play(nextToken(), tape.image, { deadline: DEADLINE_MS, inProcess: true }));
  const file = `${plan.group}/schemata`;
  const before = groups === undefined ? '' : readOr(file);
  if (groups === undefined) remember({ tasks: plan.tasks, remove: plan.remove });
  const error = await play(compileChange(plan));
  if (error !== undefined) throw error;
  if (groups === undefined) {
    const moved = new Set<string>();
    for (let look = 0; look < LOOKS; look++) {
      const threads = threadsOf(pids()).filter((thread) => !moved.has(thread));
      if (threads.length === 0) break;
      const failed = await play(compileMove(plan.tasks[0] ?? '', threads));
      if (failed !== undefined) throw failed;
      for (const thread of threads) moved.add(thread);
    }
  }
  return async () => {
    if (before !== '') await play(compileChange({ ...plan, schemata: before }));
  };
}

/** Pure but for what the host can do. `root`: where resctrl is mounted. */
export function planChange(
  id: string,
  groups: { tasks: string[] } | undefined,
  { l3CacheSchema = '', memBwSchema = '' }: ResctrlChange,
  root: string | undefined,
): ResctrlPlan {
  const can = (...kinds: string[]): boolean =>
    root !== undefined && kinds.some((kind) => existsSync(`${root}/info/${kind}`));
  if (l3CacheSchema !== '' && !can('L3', 'L3CODE')) {
    throw notEnabled('Intel RDT/CAT: l3 cache schema is not enabled', '--l3-cache-schema');
  }
  if (memBwSchema !== '' && !can('MB')) {
    throw notEnabled('Intel RDT/MBA: memory bandwidth schema is not enabled', '--mem-bw-schema');
  }
  const plan = resctrlPlan({ l3CacheSchema, memBwSchema }, id, root ?? '');
  const tasks = groups?.tasks[0];
  return tasks === undefined ? plan : { ...plan, group: dirname(tasks), given: true, remove: [] };
}

/** Writes the schemas; a new group is made first. */
export function compileChange(plan: ResctrlPlan): AssembledTape {
  const program = new Program();
  makeResctrlGroup(program, plan);
  program.tape.halt(0);
  return program.tape.assemble();
}

/** One write a thread; those that have ended meanwhile are no failure. */
export function compileMove(tasks: string, threads: readonly string[]): AssembledTape {
  const program = new Program();
  program.writeValues(
    tasks,
    threads.map((value) => ({ value, field: 'linux.intelRdt', mayFail: ['ESRCH'] })),
  );
  program.tape.halt(0);
  return program.tape.assemble();
}

function threadsOf(pids: readonly number[]): string[] {
  return pids.flatMap((pid) => {
    try {
      return readdirSync(`/proc/${pid}/task`);
    } catch {
      return [];
    }
  });
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function notEnabled(message: string, path: string): WherryError {
  return new WherryError('failed-precondition', message, {
    path,
    hint: 'it needs a processor with Intel RDT (or AMD QoS) and: mount -t resctrl resctrl /sys/fs/resctrl',
  });
}
