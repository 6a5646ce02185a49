/**
 * Which containers lost a process to the kernel's out-of-memory killer. v2 tells changes of memory.events by inotify; v1 adds
 * to an eventfd, which nobody here can wait for, so one for all containers is looked at a few times a second.
 * Either way the number comes from the cgroup's file, so nothing is lost between two looks, and a look at the exit comes before it is told.
 * Sources: cgroup-v2.rst (memory.events), cgroup-v1/memory.rst ("OOM Control"), cgroups(7).
 */
import { closeSync, constants, type FSWatcher, openSync, statSync, watch, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { EventFd } from '../linux/eventfd.ts';
import { readShortFile } from '../linux/short-file.ts';
import type { CgroupMode } from './hierarchy.ts';
import { cgroupTree } from './tree.ts';

/** How late a kill in a v1 cgroup whose container lives on may be noticed. */
const LOOK_EVERY_MS = 250;

export class OomWatcher {
  readonly #mode: CgroupMode;
  readonly #onProblem: (problem: string) => void;
  /** v1: those to look at when the eventfd says that something happened. */
  readonly #listeners = new Set<() => void>();
  #events: EventFd | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `onProblem` hears why kills may be noticed only at the container's end. */
  constructor(mode: CgroupMode, onProblem: (problem: string) => void) {
    this.#mode = mode;
    this.#onProblem = onProblem;
  }

  /** `paths` are those of a CgroupPlan. `onChange` is called when oomKills() may have grown. Returns what ends the watch, idempotent. */
  watch(paths: Readonly<Record<string, string>>, onChange: () => void): () => void {
    const file = eventsFile(paths, this.#mode);
    if (file === undefined) return () => {};
    return this.#mode === 'v2' ? this.#notify(file, onChange) : this.#register(file, onChange);
  }

  /** For the daemon's end. */
  close(): void {
    this.#listeners.clear();
    this.#rest();
  }

  #notify(file: string, onChange: () => void): () => void {
    let watcher: FSWatcher;
    try {
      watcher = watch(file, { persistent: false }, onChange);
    } catch (error) {
      // No memory controller here, or no inotify watch left.
      this.#onProblem(String(error));
      return () => {};
    }
    watcher.on('error', (error) => this.#onProblem(String(error)));
    return () => watcher.close();
  }

  #register(file: string, onChange: () => void): () => void {
    const opened: number[] = [];
    try {
      this.#events ??= new EventFd();
      const control = openSync(file, constants.O_RDONLY);
      opened.push(control);
      const registration = openSync(`${dirname(file)}/cgroup.event_control`, constants.O_WRONLY);
      opened.push(registration);
      writeSync(registration, `${this.#events.descriptor} ${control}`);
    } catch (error) {
      this.#onProblem(String(error));
    } finally {
      // The registration lives as long as the cgroup.
      for (const descriptor of opened) closeSync(descriptor);
    }
    this.#listeners.add(onChange);
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
    return () => {
      this.#listeners.delete(onChange);
      if (this.#listeners.size === 0) this.#rest();
    };
  }

  #look(): void {
    if (this.#events?.take() === true) for (const listener of [...this.#listeners]) listener();
  }

  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#events?.close();
    this.#events = undefined;
  }
}

/** Kills in a container's cgroup and those below since it was made; 0 where there is none or nothing counts them. */
export function oomKills(paths: Readonly<Record<string, string>>, mode: CgroupMode): number {
  const file = eventsFile(paths, mode);
  if (file === undefined) return 0;
  const own = killsIn(file);
  // v2 counts what happens below; v1 does not.
  if (mode === 'v2' || own === undefined || !hasFolders(dirname(file))) return own ?? 0;
  const killsBelow = (folder: string): number => killsIn(`${folder}/${basename(file)}`) ?? 0;
  return cgroupTree(dirname(file)).reduce((sum, folder) => sum + killsBelow(folder), 0);
}

/** In which cgroup, from the container's on ('/'), kills were counted that `counts` has not yet; they are entered there. */
export function oomCgroup(
  paths: Readonly<Record<string, string>>,
  mode: CgroupMode,
  counts: Map<string, number>,
): string | undefined {
  const file = eventsFile(paths, mode);
  if (file === undefined) return undefined;
  const top = dirname(file);
  let found: string | undefined;
  for (const folder of cgroupTree(top)) {
    // memory.events.local is memory.events without those below (Linux 5.2).
    const kills =
      killsIn(mode === 'v2' ? `${folder}/memory.events.local` : `${folder}/${basename(file)}`) ?? 0;
    if (kills > (counts.get(folder) ?? 0)) {
      counts.set(folder, kills);
      found = folder.slice(top.length) || '/';
    }
  }
  // A cgroup that has gone since took its count along.
  return found ?? '/';
}

/** A folder has a link from itself, one from its parent and one from each folder in it. */
function hasFolders(folder: string): boolean {
  try {
    return (statSync(folder, { throwIfNoEntry: false })?.nlink ?? 0) > 2;
  } catch {
    return false;
  }
}

function eventsFile(paths: Readonly<Record<string, string>>, mode: CgroupMode): string | undefined {
  const directory = paths[mode === 'v2' ? '' : 'memory'];
  return directory === undefined
    ? undefined
    : `${directory}/${mode === 'v2' ? 'memory.events' : 'memory.oom_control'}`;
}

/** Both files have a line `oom_kill N`, unless the kernel is too old to count. undefined: the cgroup is not there. */
function killsIn(file: string): number | undefined {
  const text = readShortFile(file);
  return text === undefined ? undefined : Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}
