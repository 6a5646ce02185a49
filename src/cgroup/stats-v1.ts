/** One sample from the files of cgroup v1, spread over one folder for each hierarchy. */
import { readFileSync } from 'node:fs';
import { CgroupFile, countersOf, countOf, hugePageSizes } from './files.ts';
import { parseBlkio, parseList, parsePartitions, parseRdma } from './parse.ts';
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
const BLKIO_PREFIXES = ['blkio.bfq.', 'blkio.', 'blkio.throttle.'];

/** The four files of a counter of memory that has a limit. */
class MemoryFiles {
  readonly usage: CgroupFile;
  readonly #limit: CgroupFile;
  readonly #max: CgroupFile;
  readonly #failcnt: CgroupFile;

  constructor(file: (name: string) => CgroupFile) {
    this.usage = file('usage_in_bytes');
    this.#limit = file('limit_in_bytes');
    this.#max = file('max_usage_in_bytes');
    this.#failcnt = file('failcnt');
  }

  entry(): MemoryEntry | undefined {
    const usage = countOf(this.usage);
    if (usage === undefined) return undefined;
    return {
      limit: countOf(this.#limit) ?? 0n,
      usage,
      max: countOf(this.#max) ?? 0n,
      failcnt: countOf(this.#failcnt) ?? 0n,
    };
  }
}

const MEMORY_FIELDS = [
  ['usage', 'memory'],
  ['swap', 'memory.memsw'],
  ['kernel', 'memory.kmem'],
  ['kernelTcp', 'memory.kmem.tcp'],
] as const;

/** Names of the lines of each kind of file, for the next reading of any container's. */
const names = { memory: [] as string[], cpu: [] as string[], cpuacct: [] as string[], oom: [] as string[] };

export class StatsV1 {
  readonly #paths: Readonly<Record<string, string>>;
  /** All that were made, to be closed. */
  readonly #files: CgroupFile[] = [];
  readonly #pids: { current: CgroupFile; max: CgroupFile } | undefined;
  readonly #cpu: { stat: CgroupFile } | undefined;
  readonly #cpuacct: { usage: CgroupFile; stat: CgroupFile; perCpu: CgroupFile } | undefined;
  readonly #memory: { stat: CgroupFile; oom: CgroupFile; entries: MemoryFiles[] } | undefined;
  readonly #rdma: { current: CgroupFile; max: CgroupFile } | undefined;
  #blkio: readonly CgroupFile[][] | undefined;
  #hugetlb: { pagesize: string; usage: CgroupFile; max: CgroupFile; failcnt: CgroupFile }[] | undefined;
  #devices: Map<string, string> | undefined;

  constructor(paths: Readonly<Record<string, string>>) {
    this.#paths = paths;
    const of = <T>(controller: string, make: (file: (name: string) => CgroupFile) => T): T | undefined =>
      paths[controller] === undefined ? undefined : make((name) => this.#file(controller, name));
    this.#pids = of('pids', (file) => ({ current: file('pids.current'), max: file('pids.max') }));
    this.#cpu = of('cpu', (file) => ({ stat: file('cpu.stat') }));
    this.#cpuacct = of('cpuacct', (file) => ({
      usage: file('cpuacct.usage'),
      stat: file('cpuacct.stat'),
      perCpu: file('cpuacct.usage_percpu'),
    }));
    this.#memory = of('memory', (file) => ({
      stat: file('memory.stat'),
      oom: file('memory.oom_control'),
      entries: MEMORY_FIELDS.map(([, prefix]) => new MemoryFiles((name) => file(`${prefix}.${name}`))),
    }));
    this.#rdma = of('rdma', (file) => ({ current: file('rdma.current'), max: file('rdma.max') }));
  }

  /** undefined when not one file could be read. */
  sample(): CgroupV1Stats | undefined {
    const stats: CgroupV1Stats = { version: 1, takenAt: new Date() };
    const pids = this.#samplePids();
    const cpu = this.#sampleCpu();
    const memory = this.#sampleMemory();
    const oomControl = this.#sampleOomControl();
    const blkio = this.#sampleBlkio();
    const hugetlb = this.#sampleHugetlb();
    const rdma = this.#sampleRdma();
    if (pids !== undefined) stats.pids = pids;
    if (cpu !== undefined) stats.cpu = cpu;
    if (memory !== undefined) stats.memory = memory;
    if (oomControl !== undefined) stats.oomControl = oomControl;
    if (blkio !== undefined) stats.blkio = blkio;
    if (hugetlb !== undefined) stats.hugetlb = hugetlb;
    if (rdma !== undefined) stats.rdma = rdma;
    const found = pids ?? cpu ?? memory ?? oomControl ?? blkio ?? hugetlb ?? rdma;
    return found === undefined ? undefined : stats;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  #file(controller: string, name: string): CgroupFile {
    const file = new CgroupFile(`${this.#paths[controller]}/${name}`);
    this.#files.push(file);
    return file;
  }

  #samplePids(): CgroupV1Stats['pids'] {
    if (this.#pids === undefined) return undefined;
    const current = countOf(this.#pids.current);
    // containerd's v1 message says "no limit" with 0.
    return current === undefined ? undefined : { current, limit: countOf(this.#pids.max, 0n) ?? 0n };
  }

  #sampleCpu(): CgroupV1Stats['cpu'] {
    const total = this.#cpuacct && countOf(this.#cpuacct.usage);
    const throttling = this.#cpu && countersOf(this.#cpu.stat, names.cpu);
    if (total === undefined && throttling === undefined) return undefined;
    const ticks = this.#cpuacct && countersOf(this.#cpuacct.stat, names.cpuacct);
    const perCpu = this.#cpuacct?.perCpu.text();
    return {
      total: total ?? 0n,
      kernel: (ticks?.['system'] ?? 0n) * NANOSECONDS_PER_TICK,
      user: (ticks?.['user'] ?? 0n) * NANOSECONDS_PER_TICK,
      perCpu: perCpu === undefined ? [] : parseList(perCpu),
      periods: throttling?.['nr_periods'] ?? 0n,
      throttledPeriods: throttling?.['nr_throttled'] ?? 0n,
      throttledTime: throttling?.['throttled_time'] ?? 0n,
    };
  }

  #sampleMemory(): CgroupV1Stats['memory'] {
    const stat = this.#memory && countersOf(this.#memory.stat, names.memory);
    if (this.#memory === undefined || stat === undefined) return undefined;
    const memory: NonNullable<CgroupV1Stats['memory']> = { stat };
    for (const [index, [field]] of MEMORY_FIELDS.entries()) {
      const entry = this.#memory.entries[index]?.entry();
      if (entry !== undefined) memory[field] = entry;
    }
    return memory;
  }

  #sampleOomControl(): CgroupV1Stats['oomControl'] {
    const values = this.#memory && countersOf(this.#memory.oom, names.oom);
    return (
      values && {
        oomKillDisable: values['oom_kill_disable'] ?? 0n,
        underOom: values['under_oom'] ?? 0n,
        oomKill: values['oom_kill'] ?? 0n,
      }
    );
  }

  /** The scheduler's own files where they count anything, else the throttling layer's, which always do. */
  #sampleBlkio(): CgroupV1Stats['blkio'] {
    if (this.#paths['blkio'] === undefined) return undefined;
    this.#blkio ??= BLKIO_PREFIXES.map((prefix) =>
      BLKIO_FIELDS.map(([, name]) => this.#file('blkio', `${prefix}${name}`)),
    );
    let found = false;
    const present: CgroupFile[][] = [];
    for (const files of this.#blkio) {
      const blkio: Record<string, BlkioEntry[]> = {};
      let any = false;
      let counts = false;
      for (const [index, file] of files.entries()) {
        const text = file.text();
        if (text === undefined) continue;
        any = true;
        const entries = parseBlkio(text, (major, minor) => this.#device(major, minor));
        if (entries.length === 0) continue;
        blkio[BLKIO_FIELDS[index]![0]] = entries;
        counts = true;
      }
      found ||= any;
      if (any) present.push(files);
      if (counts) return blkio;
    }
    // Which schedulers a kernel has does not change while it runs.
    if (present.length > 0) this.#blkio = present;
    return found ? {} : undefined;
  }

  #device(major: bigint, minor: bigint): string {
    this.#devices ??= partitions();
    return this.#devices.get(`${major}:${minor}`) ?? '';
  }

  #sampleHugetlb(): HugetlbV1[] | undefined {
    const folder = this.#paths['hugetlb'];
    this.#hugetlb ??= (folder === undefined ? [] : hugePageSizes(folder)).map((pagesize) => {
      const file = (what: string) => this.#file('hugetlb', `hugetlb.${pagesize}.${what}`);
      return {
        pagesize,
        usage: file('usage_in_bytes'),
        max: file('max_usage_in_bytes'),
        failcnt: file('failcnt'),
      };
    });
    const found: HugetlbV1[] = [];
    for (const { pagesize, ...files } of this.#hugetlb) {
      const usage = countOf(files.usage);
      if (usage === undefined) continue;
      const max = countOf(files.max) ?? 0n;
      found.push({ pagesize, usage, max, failcnt: countOf(files.failcnt) ?? 0n });
    }
    return found.length === 0 ? undefined : found;
  }

  #sampleRdma(): CgroupV1Stats['rdma'] {
    const current = this.#rdma?.current.text();
    if (this.#rdma === undefined || current === undefined) return undefined;
    const now = parseRdma(current);
    const limit = this.#rdma.max.text();
    return { current: now, limit: limit === undefined ? [] : parseRdma(limit) };
  }
}

function partitions(): Map<string, string> {
  try {
    return parsePartitions(readFileSync('/proc/partitions', 'utf8'));
  } catch {
    return new Map();
  }
}
