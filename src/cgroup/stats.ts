/**
 * One sample of a container's cgroup, as the kernel's files give it. Shapes follow containerd's v1 and v2 metrics
 * messages, so that the services only copy. Missing files leave fields undefined; they are never an error.
 * Units: bytes, and nanoseconds in v1, microseconds in v2, as the kernel has them. `bigint` where a value may pass 2^53.
 */
export interface PressureLine {
  avg10: number;
  avg60: number;
  avg300: number;
  total: bigint;
}
export interface Pressure {
  some?: PressureLine;
  full?: PressureLine;
}

export interface MemoryEntry {
  limit: bigint;
  usage: bigint;
  max: bigint;
  failcnt: bigint;
}
export interface BlkioEntry {
  op: string;
  device: string;
  major: bigint;
  minor: bigint;
  value: bigint;
}
export interface HugetlbV1 {
  pagesize: string;
  usage: bigint;
  max: bigint;
  failcnt: bigint;
}
export interface RdmaEntry {
  device: string;
  hcaHandles: number;
  hcaObjects: number;
}

export interface CgroupV1Stats {
  version: 1;
  /** When the sample was taken. */
  takenAt: Date;
  pids?: { current: bigint; limit: bigint };
  cpu?: {
    total: bigint;
    kernel: bigint;
    user: bigint;
    perCpu: bigint[];
    periods: bigint;
    throttledPeriods: bigint;
    throttledTime: bigint;
  };
  memory?: {
    /** memory.stat, name to value: cache, rss, total_cache … */
    stat: Record<string, bigint>;
    usage?: MemoryEntry;
    swap?: MemoryEntry;
    kernel?: MemoryEntry;
    kernelTcp?: MemoryEntry;
  };
  oomControl?: { oomKillDisable: bigint; underOom: bigint; oomKill: bigint };
  /** Keys: ioServiceBytesRecursive, ioServicedRecursive, ioQueuedRecursive, ioServiceTimeRecursive, ioWaitTimeRecursive, ioMergedRecursive, ioTimeRecursive, sectorsRecursive. */
  blkio?: Record<string, BlkioEntry[]>;
  hugetlb?: HugetlbV1[];
  rdma?: { current: RdmaEntry[]; limit: RdmaEntry[] };
}

export interface CgroupV2Stats {
  version: 2;
  takenAt: Date;
  pids?: { current: bigint; limit: bigint };
  /** cpu.stat, name to value: usage_usec … */
  cpu?: { stat: Record<string, bigint>; pressure?: Pressure };
  memory?: {
    /** memory.stat, name to value. */
    stat: Record<string, bigint>;
    /** "max" is 2^64-1. */
    usage?: bigint;
    usageLimit?: bigint;
    swapUsage?: bigint;
    swapLimit?: bigint;
    maxUsage?: bigint;
    swapMaxUsage?: bigint;
    pressure?: Pressure;
  };
  memoryEvents?: Record<string, bigint>;
  io?: {
    usage: { major: bigint; minor: bigint; rbytes: bigint; wbytes: bigint; rios: bigint; wios: bigint }[];
    pressure?: Pressure;
  };
  hugetlb?: { pagesize: string; current: bigint; max: bigint; failcnt: bigint }[];
  rdma?: { current: RdmaEntry[]; limit: RdmaEntry[] };
}

export type CgroupStats = CgroupV1Stats | CgroupV2Stats;
