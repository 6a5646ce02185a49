/** What a process may be told about its scheduling, memory and personality: names of config.json with the kernel's numbers. */

/** linux/sched.h; sched(7). SCHED_ISO is reserved there and every kernel answers EINVAL. */
export const schedulerPolicies: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};

/** linux/sched.h; sched_setattr(2). */
export const schedulerFlags: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 0x01,
  SCHED_FLAG_RECLAIM: 0x02,
  SCHED_FLAG_DL_OVERRUN: 0x04,
  SCHED_FLAG_KEEP_POLICY: 0x08,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
};

/** linux/ioprio.h; ioprio_set(2). */
export const ioClasses: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
};

/** linux/mempolicy.h; set_mempolicy(2). */
export const memoryModes: Readonly<Record<string, number>> = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
};

export const memoryFlags: Readonly<Record<string, number>> = {
  MPOL_F_NUMA_BALANCING: 1 << 13,
  MPOL_F_RELATIVE_NODES: 1 << 14,
  MPOL_F_STATIC_NODES: 1 << 15,
};

/** linux/personality.h; personality(2). */
export const personalityDomains: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 };

export const personalityFlags: Readonly<Record<string, number>> = {
  UNAME26: 0x0002_0000,
  ADDR_NO_RANDOMIZE: 0x0004_0000,
  FDPIC_FUNCPTRS: 0x0008_0000,
  MMAP_PAGE_ZERO: 0x0010_0000,
  ADDR_COMPAT_LAYOUT: 0x0020_0000,
  READ_IMPLIES_EXEC: 0x0040_0000,
  ADDR_LIMIT_32BIT: 0x0080_0000,
  SHORT_INODE: 0x0100_0000,
  WHOLE_SECONDS: 0x0200_0000,
  STICKY_TIMEOUTS: 0x0400_0000,
  ADDR_LIMIT_3GB: 0x0800_0000,
};

/** The kernel's own limits of a list: CPUs (NR_CPUS) and memory nodes (MAX_NUMNODES), far above any machine. */
export const MAX_CPUS = 8192;
export const MAX_NODES = 1024;

/**
 * `0-3,7` as numbers, ascending; undefined for a list that cpuset(7) does not allow or a number above `most`.
 * Blanks around a part are tolerated; an empty list is empty.
 */
export function parseNumberList(text: string, most: number): number[] | undefined {
  const numbers = new Set<number>();
  if (text.trim() === '') return [];
  for (const part of text.split(',')) {
    const range = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part);
    if (range === null) return undefined;
    const first = Number(range[1]);
    const last = Number(range[2] ?? range[1]);
    if (last < first || last >= most) return undefined;
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** A bit for each number, in words of 64 bits, as sched_setaffinity(2) and set_mempolicy(2) take it. */
export function bitMask(numbers: readonly number[]): Uint8Array {
  const words = Math.floor(Math.max(0, ...numbers) / 64) + 1;
  const mask = new Uint8Array(words * 8);
  for (const number of numbers) mask[number >> 3] = (mask[number >> 3] ?? 0) | (1 << (number & 7));
  return mask;
}
