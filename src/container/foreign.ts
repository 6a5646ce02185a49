/**
 * A container that runc has made, as runc remembers it (its state.json): what is needed to end it and to take it away when the shim that
 * kept it has died and containerd asks this one to clean up. Nothing else is ever done with such containers.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { openCgroupReader } from '../cgroup/reader.ts';
import { removalOrder } from '../cgroup/tree.ts';
import { WherryError } from '../errors.ts';
import { SIGKILL } from '../linux/constants.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError } from '../tape/outcome.ts';
import { compileRemove } from './compile/remove.ts';
import { Freezer } from './freezer.ts';
import type { Keel } from './keel.ts';
import { mountsBelow } from './nested-mounts.ts';
import { sleep } from './waiting.ts';

export interface ForeignContainer {
  /** runc's folder of it. */
  stateDir: string;
  bundle: string;
  pid: number;
  /** Clock ticks since boot, as in /proc/PID/stat. */
  startTime: bigint;
  /** By v1 controller, or '' for the unified hierarchy. Absolute. */
  cgroups: Readonly<Record<string, string>>;
}

const PLAY_DEADLINE_MS = 4000;
/** Dying processes keep their cgroups for a moment. */
const TRIES = 30;
/** containerd's snapshotters give one mount or two. */
const ROOT_MOUNTS = ['', ''];

/** undefined: runc knows no such container. */
export async function readForeign(stateDir: string, bundle: string): Promise<ForeignContainer | undefined> {
  const text = await readFile(join(stateDir, 'state.json'), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const path = join(stateDir, 'state.json');
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch (cause) {
    throw new WherryError('invalid-argument', `${path} is not JSON`, { path, cause });
  }
  const {
    init_process_pid: pid,
    init_process_start: start,
    cgroup_paths: cgroups,
  } = state as Record<string, unknown>;
  // One of Wherry's own has other fields.
  if (typeof pid !== 'number' || typeof start !== 'number') return undefined;
  const named = Object.entries((cgroups ?? {}) as Record<string, unknown>).flatMap(
    ([controller, folder]): [string, string][] =>
      typeof folder === 'string' && folder !== '' ? [[controller, folder]] : [],
  );
  return { stateDir, bundle, pid, startTime: BigInt(start), cgroups: Object.fromEntries(named) };
}

export interface ForeignDependencies {
  keel: Keel;
  cgroups: CgroupHost;
  nextToken(): bigint;
}

/** Kills all of it, removes its cgroups, its root filesystem's mounts and runc's memory of it. */
export async function removeForeign(found: ForeignContainer, deps: ForeignDependencies): Promise<void> {
  const { keel, nextToken } = deps;
  const token = nextToken();
  // By number and start time, so that a stranger with its number is left alone.
  if ((await keel.adopt(token, found.pid, found.startTime)) === 0) {
    await keel.signal(token, SIGKILL);
    const paths = ownCgroups(found, deps.cgroups);
    // The rest of it, where no pid namespace of its own ends with the init.
    const others = () => openCgroupReader(paths, deps.cgroups.mode).pids();
    await new Freezer(paths, deps.cgroups.mode, deps).signalAll(SIGKILL, others, false).catch(() => {});
  }
  for (let attempt = 1; ; attempt++) {
    const tape = removeTape(found, deps.cgroups);
    const result = await keel.play(nextToken(), tape.image, { deadline: PLAY_DEADLINE_MS });
    const error = playError(tape, result);
    if (error === undefined) break;
    if (attempt === TRIES) throw error;
    await sleep(Math.min(2 ** attempt, 100));
  }
  await rm(found.stateDir, { recursive: true, force: true });
}

function removeTape(found: ForeignContainer, cgroups: CgroupHost): AssembledTape {
  const rootfs = join(found.bundle, 'rootfs');
  return compileRemove({
    rootfs,
    rootfsTargets: ROOT_MOUNTS,
    nestedMounts: mountsBelow(rootfs),
    cgroupDirectories: removalOrder([...new Set(Object.values(ownCgroups(found, cgroups)))]),
  });
}

/** What is no folder below a hierarchy is nobody's cgroup. */
function ownCgroups(
  { cgroups }: ForeignContainer,
  { hierarchies, unified }: CgroupHost,
): Record<string, string> {
  const mounts = [...hierarchies, ...(unified === undefined ? [] : [unified])].map(
    ({ mountPoint }) => mountPoint,
  );
  return Object.fromEntries(
    Object.entries(cgroups).filter(([, folder]) =>
      mounts.some((mount) => folder.startsWith(`${mount}/`) && !folder.includes('/../')),
    ),
  );
}
