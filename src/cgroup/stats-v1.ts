/** One sample from the files of cgroup v1, spread over one folder for each hierarchy. */
import { readFileSync } from 'node:fs';
import { CgroupFiles } from './files.ts';
import {
  parseBlkio,
  parseCount,
  parseKeyed,
  parseList,
  parsePartitions,
  parseRdma,
  type Text,
} from './parse.ts';
import type { BlkioEntry, CgroupV1Stats, HugetlbV1, MemoryEntry } from './stats.ts';

/** cpuacct.stat counts in ticks of 1/100 s, whatever the kernel's own rate is (USER_HZ). */
const NANOSECONDS_PER_TICK = 10_000_000n;

/** Files of cfq and bfq by the field that they fill; which of the two a kernel has is found out by reading. */
const BLKIO_FIELDS = [
  ['ioServiceBytesRecursive', 'io_service_bytes_recursive'],
  ['ioServicedRecursive', 'io_serviced_recursive'],
  ['ioQueuedRecursive', 'io_queued_recursive'],
  ['ioServiceTimeRecursive', 'io_service_time_recursive'],
  ['ioWaitTimeRecursive', 'io_wait_time_recursive'],
  ['ioMergedRecursive', 'io_merged_recursive'],
  ['ioTimeRecursive', 'time_recursive'],
  ['sectorsRecursive', 'sectors_recursive'],
] as const;

export class StatsV1 {
  /** By directory: co-mounted controllers share one. */
  readonly #open = new Map<string, CgroupFiles>();
  readonly #paths: Readonly<Record<string, string>>;
  readonly #names = {
    memory: [] as string[],
    cpu: [] as string[],
    cpuacct: [] as string[],
    oom: [] as string[],
  };
  #blkioPrefixes: readonly string[] = ['blkio.bfq.', 'blkio.', 'blkio.throttle.'];
  #devices: Map<string, string> | undefined;

  constructor(paths: Readonly<Record<string, string>>) {
    this.#paths = paths;
  }

  /** undefined when not one file could be read. */
  sample(): CgroupV1Stats | undefined {
    const stats: CgroupV1Stats = { version: 1, takenAt: new Date() };
    const empty = Object.keys(stats).length;
    const put = <K extends keyof CgroupV1Stats>(key: K, value: CgroupV1Stats[K] | undefined) => {
      if (value !== undefined) stats[key] = value;
    };
    put('pids', this.#pids());
    put('cpu', this.#cpu());
    put('memory', this.#memory());
    put('oomControl', this.#oomControl());
    put('blkio', this.#blkio());
    put('hugetlb', this.#hugetlb());
    put('rdma', this.#rdma());
    return Object.keys(stats).length === empty ? undefined : stats;
  }

  close(): void {
    for (const files of this.#open.values()) files.close();
    this.#open.clear();
  }

  #files(controller: string): CgroupFiles | undefined {
    const directory = this.#paths[controller];
    if (directory === undefined) return undefined;
    let files = this.#open.get(directory);
    if (files === undefined) {
      files = new CgroupFiles(directory);
      this.#open.set(directory, files);
    }
    return files;
  }

  #read<T>(controller: string, file: string, parse: (text: Text) => T): T | undefined {
    const text = this.#files(controller)?.text(file);
    return text === undefined ? undefined : parse(text);
  }

  #pids(): CgroupV1Stats['pids'] {
    const current = this.#read('pids', 'pids.current', parseCount);
    if (current === undefined) return undefined;
    // containerd's v1 message says "no limit" with 0.
    return { current, limit: this.#read('pids', 'pids.max', (text) => parseCount(text, 0n)) ?? 0n };
  }

  #cpu(): CgroupV1Stats['cpu'] {
    const total = this.#read('cpuacct', 'cpuacct.usage', parseCount);
    const throttling = this.#read('cpu', 'cpu.stat', (text) => parseKeyed(text, this.#names.cpu));
    if (total === undefined && throttling === undefined) return undefined;
    const ticks = this.#read('cpuacct', 'cpuacct.stat', (text) => parseKeyed(text, this.#names.cpuacct));
    return {
      total: total ?? 0n,
      kernel: (ticks?.['system'] ?? 0n) * NANOSECONDS_PER_TICK,
      user: (ticks?.['user'] ?? 0n) * NANOSECONDS_PER_TICK,
      perCpu: this.#read('cpuacct', 'cpuacct.usage_percpu', parseList) ?? [],
      periods: throttling?.['nr_periods'] ?? 0n,
      throttledPeriods: throttling?.['nr_throttled'] ?? 0n,
      throttledTime: throttling?.['throttled_time'] ?? 0n,
    };
  }

  #memory(): CgroupV1Stats['memory'] {
    const stat = this.#read('memory', 'memory.stat', (text) => parseKeyed(text, this.#names.memory));
    if (stat === undefined) return undefined;
    const memory: NonNullable<CgroupV1Stats['memory']> = { stat };
    for (const [field, prefix] of [
      ['usage', 'memory'],
      ['swap', 'memory.memsw'],
      ['kernel', 'memory.kmem'],
      ['kernelTcp', 'memory.kmem.tcp'],
    ] as const) {
      const entry = this.#memoryEntry(prefix);
      if (entry !== undefined) memory[field] = entry;
    }
    return memory;
  }

  #memoryEntry(prefix: string): MemoryEntry | undefined {
    const usage = this.#read('memory', `${prefix}.usage_in_bytes`, parseCount);
    if (usage === undefined) return undefined;
    return {
      usage,
      limit: this.#read('memory', `${prefix}.limit_in_bytes`, parseCount) ?? 0n,
      max: this.#read('memory', `${prefix}.max_usage_in_bytes`, parseCount) ?? 0n,
      failcnt: this.#read('memory', `${prefix}.failcnt`, parseCount) ?? 0n,
    };
  }

  #oomControl(): CgroupV1Stats['oomControl'] {
    const values = this.#read('memory', 'memory.oom_control', (text) => parseKeyed(text, this.#names.oom));
    return (
      values && {
        oomKillDisable: values['oom_kill_disable'] ?? 0n,
        underOom: values['under_oom'] ?? 0n,
        oomKill: values['oom_kill'] ?? 0n,
      }
    );
  }

  /** The scheduler's own files where they count anything, else the throttling layer's, which always do. */
  #blkio(): CgroupV1Stats['blkio'] {
    const files = this.#files('blkio');
    if (files === undefined) return undefined;
    let found = false;
    const present: string[] = [];
    for (const prefix of this.#blkioPrefixes) {
      const blkio: Record<string, BlkioEntry[]> = {};
      let any = false;
      for (const [field, file] of BLKIO_FIELDS) {
        const text = files.text(`${prefix}${file}`);
        if (text === undefined) continue;
        any = true;
        const entries = parseBlkio(text, (major, minor) => this.#device(major, minor));
        if (entries.length > 0) blkio[field] = entries;
      }
      found ||= any;
      if (any) present.push(prefix);
      if (Object.keys(blkio).length > 0) return blkio;
    }
    // Which schedulers a kernel has does not change while it runs.
    if (present.length > 0) this.#blkioPrefixes = present;
    return found ? {} : undefined;
  }

  #device(major: bigint, minor: bigint): string {
    this.#devices ??= partitions();
    return this.#devices.get(`${major}:${minor}`) ?? '';
  }

  #hugetlb(): HugetlbV1[] | undefined {
    const files = this.#files('hugetlb');
    const sizes = files?.hugePages() ?? [];
    const count = (pagesize: string, what: string) =>
      this.#read('hugetlb', `hugetlb.${pagesize}.${what}`, parseCount);
    const found = sizes.flatMap((pagesize) => {
      const usage = count(pagesize, 'usage_in_bytes');
      if (usage === undefined) return [];
      const max = count(pagesize, 'max_usage_in_bytes') ?? 0n;
      return [{ pagesize, usage, max, failcnt: count(pagesize, 'failcnt') ?? 0n }];
    });
    return found.length === 0 ? undefined : found;
  }

  #rdma(): CgroupV1Stats['rdma'] {
    const current = this.#read('rdma', 'rdma.current', parseRdma);
    return current && { current, limit: this.#read('rdma', 'rdma.max', parseRdma) ?? [] };
  }
}

function partitions(): Map<string, string> {
  try {
    return parsePartitions(readFileSync('/proc/partitions', 'utf8'));
  } catch {
    return new Map();
  }
}
