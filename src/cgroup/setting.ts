/** One value that config.json wants in one file of the container's cgroup, before and after it is known where that is. */
import { WherryError } from '../errors.ts';
import type { Int64, LinuxResources } from '../oci/types.ts';

export interface Setting {
  /** The controller that must be there: a v1 hierarchy, or one to enable on v2. */
  controller: string;
  /** Name of the file in the cgroup: `memory.max`. */
  file: string;
  value: string;
  /** Who asked: `linux.resources.memory.limit`. */
  field: string;
  /** Names of errors that are no failure. */
  mayFail?: string[];
}

export interface CgroupWrite {
  /** Absolute. */
  file: string;
  value: string;
  /** Field of config.json that asked for it. */
  field: string;
  /** Names of errors of open or write that are no failure. */
  mayFail?: string[];
  /** Files that this one inherits from, the highest first: an empty one (its folder was made anew since) is the reason of an EACCES. */
  above?: string[];
}

/** Settings in the order in which they must be written, and what config.json asked for that does nothing here. */
export interface Settings {
  settings: Setting[];
  warnings: string[];
}

export const FIELD = 'linux.resources';

export const NO_FLAT_HIERARCHY = `${FIELD}.memory.useHierarchy is ignored: a limit always holds for the cgroups below`;

/** Refuses what no kernel takes, with the field's name; the kernel would only say EINVAL. */
export function checkResources(resources: LinuxResources): void {
  checkMemory(resources);
  checkCpu(resources);
  checkWeights(resources);
}

function checkMemory({ memory }: LinuxResources): void {
  if (memory === undefined) return;
  const { limit, swap, swappiness } = memory;
  for (const name of ['limit', 'reservation', 'swap', 'kernelTCP'] as const) {
    const value = memory[name];
    if (value !== undefined && value < -1)
      refuse(`memory.${name}`, value, 'must be a number of bytes, or -1 for no limit');
  }
  if (swappiness !== undefined && swappiness > 100)
    refuse('memory.swappiness', swappiness, 'must be 0 to 100');
  if (isSet(swap) && swap !== -1 && swap !== -1n) {
    if (!isSet(limit) || limit < 0) {
      refuse(
        'memory.swap',
        swap,
        'needs memory.limit: it is the sum of memory and swap',
        'set memory.limit, or swap to -1',
      );
    } else if (swap < limit) {
      refuse('memory.swap', swap, `is less than memory.limit (${limit}); it is the sum of memory and swap`);
    }
  }
}

function checkCpu({ cpu }: LinuxResources): void {
  if (cpu === undefined) return;
  const within = (name: 'shares' | 'period' | 'quota', least: number, most: number, unit: string) => {
    const value = cpu[name];
    if (isSet(value) && value !== -1 && (value < least || value > most)) {
      refuse(`cpu.${name}`, value, `must be ${least} to ${most}${unit}`);
    }
  };
  // sched-bwc.rst and kernel/sched: the ranges of cpu.shares, cpu.cfs_period_us and cpu.cfs_quota_us.
  within('shares', 2, 262_144, '');
  within('period', 1000, 1_000_000, ' microseconds');
  within('quota', 1000, Number.MAX_SAFE_INTEGER, ' microseconds, or -1 for no limit');
  // A share of nothing: what may be saved up is at most the quota.
  const { burst, quota } = cpu;
  if (isSet(burst) && isSet(quota) && (quota < 0 || BigInt(burst) > BigInt(quota))) {
    refuse('cpu.burst', burst, `is more than cpu.quota (${quota})`, 'set cpu.burst to at most cpu.quota');
  }
}

/** config-linux.md, "Block IO": 10 to 1000. */
function checkWeights({ blockIO }: LinuxResources): void {
  const within = (name: string, weight: number | undefined) => {
    if (isSet(weight) && (weight < 10 || weight > 1000))
      refuse(`blockIO.${name}`, weight, 'must be 10 to 1000');
  };
  within('weight', blockIO?.weight);
  within('leafWeight', blockIO?.leafWeight);
  for (const [index, { weight, leafWeight }] of (blockIO?.weightDevice ?? []).entries()) {
    within(`weightDevice[${index}].weight`, weight);
    within(`weightDevice[${index}].leafWeight`, leafWeight);
  }
}

function refuse(name: string, value: Int64, rule: string, hint?: string): never {
  const path = `${FIELD}.${name}`;
  throw new WherryError('invalid-argument', `${path}: ${value} ${rule}`, { path, hint });
}

/** Zero means "not given" for every limit but pids.limit, as in runc and in what docker and containerd send. */
export function isSet<T extends Int64>(value: T | undefined): value is T {
  return value !== undefined && value !== 0 && value !== 0n;
}
