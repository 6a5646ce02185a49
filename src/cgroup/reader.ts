/** What a container's cgroup has used and who is in it. */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { WherryError } from '../errors.ts';
import { readWhole } from './files.ts';
import type { CgroupMode } from './hierarchy.ts';
import { Scanner } from './parse.ts';
import type { CgroupStats } from './stats.ts';
import { StatsV1 } from './stats-v1.ts';
import { StatsV2 } from './stats-v2.ts';
import { cgroupTree } from './tree.ts';

/**
 * Holds descriptors of the files it has read (about 20 on v1, 15 on v2) until close(). Not for concurrent use; all calls
 * are synchronous and do not block: cgroup files are made by the kernel from memory.
 */
export interface CgroupReader {
  /** Throws not-found "cgroup does not exist" when there is none (any more); a single missing file is no error. */
  sample(): CgroupStats;
  /** Every process of the cgroup and of those below it, ascending, without duplicates. Throws like sample(). */
  pids(): number[];
  close(): void;
}

/** `paths` are those of a CgroupPlan. Opens nothing yet. */
export function openCgroupReader(paths: Readonly<Record<string, string>>, mode: CgroupMode): CgroupReader {
  const directories = [...new Set(Object.values(paths))];
  const stats = mode === 'v2' ? new StatsV2(paths[''] ?? '') : new StatsV1(paths);
  // Any hierarchy would do; these two are least likely to be taken away by an administrator.
  const members = paths['pids'] ?? paths['memory'] ?? paths[''] ?? directories[0];
  return {
    sample() {
      const sample = stats.sample();
      if (sample === undefined && !directories.some((directory) => existsSync(directory))) throw gone();
      return sample ?? { version: mode === 'v2' ? 2 : 1, takenAt: new Date() };
    },
    pids() {
      const folders = members === undefined ? [] : cgroupTree(members);
      if (folders.length === 0) throw gone();
      const pids = new Set<number>();
      for (const folder of folders) addProcesses(folder, pids);
      return [...pids].sort((a, b) => a - b);
    },
    close() {
      stats.close();
    },
  };
}

function gone(): WherryError {
  return new WherryError('not-found', 'cgroup does not exist');
}

function addProcesses(folder: string, pids: Set<number>): void {
  let descriptor: number;
  try {
    descriptor = openSync(`${folder}/cgroup.procs`, constants.O_RDONLY);
  } catch {
    return;
  }
  try {
    const scanner = new Scanner(readWhole(descriptor));
    for (; !scanner.done; scanner.nextLine()) {
      const pid = scanner.integer();
      // 0: a process of a pid namespace that we cannot see.
      if (pid !== undefined && pid > 0n) pids.add(Number(pid));
    }
  } catch {
    // Removed meanwhile, or a threaded cgroup, whose processes its domain lists.
  } finally {
    closeSync(descriptor);
  }
}
