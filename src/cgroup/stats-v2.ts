/** One sample from the files of cgroup v2, all in one folder. */
import { CgroupFile, countersOf, countOf, hugePageSizes } from './files.ts';
import { parseIoStat, parsePressure, parseRdma, type Text } from './parse.ts';
import type { CgroupV2Stats, Pressure } from './stats.ts';

const MEMORY_FIELDS = [
  ['usage', 'memory.current'],
  ['usageLimit', 'memory.max'],
  ['swapUsage', 'memory.swap.current'],
  ['swapLimit', 'memory.swap.max'],
  ['maxUsage', 'memory.peak'],
  ['swapMaxUsage', 'memory.swap.peak'],
] as const;

/** Names of the lines of each kind of file, for the next reading of any container's. */
const names = { memory: [] as string[], cpu: [] as string[], events: [] as string[] };

export class StatsV2 {
  readonly #directory: string;
  /** All that were made, to be closed. */
  readonly #files: CgroupFile[] = [];
  readonly #pids: { current: CgroupFile; max: CgroupFile };
  readonly #cpu: { stat: CgroupFile; pressure: CgroupFile };
  readonly #memory: { stat: CgroupFile; pressure: CgroupFile; events: CgroupFile; counts: CgroupFile[] };
  readonly #io: { stat: CgroupFile; pressure: CgroupFile };
  readonly #rdma: { current: CgroupFile; max: CgroupFile };
  #hugetlb: { pagesize: string; current: CgroupFile; max: CgroupFile; events: CgroupFile }[] | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    const file = (name: string) => this.#file(name);
    this.#pids = { current: file('pids.current'), max: file('pids.max') };
    this.#cpu = { stat: file('cpu.stat'), pressure: file('cpu.pressure') };
    this.#memory = {
      stat: file('memory.stat'),
      pressure: file('memory.pressure'),
      events: file('memory.events'),
      counts: MEMORY_FIELDS.map(([, name]) => file(name)),
    };
    this.#io = { stat: file('io.stat'), pressure: file('io.pressure') };
    this.#rdma = { current: file('rdma.current'), max: file('rdma.max') };
  }

  /** undefined when not one file could be read. */
  sample(): CgroupV2Stats | undefined {
    const stats: CgroupV2Stats = { version: 2, takenAt: new Date() };
    const pids = this.#samplePids();
    const cpu = this.#sampleCpu();
    const memory = this.#sampleMemory();
    const memoryEvents = countersOf(this.#memory.events, names.events);
    const io = this.#sampleIo();
    const hugetlb = this.#sampleHugetlb();
    const rdma = this.#sampleRdma();
    if (pids !== undefined) stats.pids = pids;
    if (cpu !== undefined) stats.cpu = cpu;
    if (memory !== undefined) stats.memory = memory;
    if (memoryEvents !== undefined) stats.memoryEvents = memoryEvents;
    if (io !== undefined) stats.io = io;
    if (hugetlb !== undefined) stats.hugetlb = hugetlb;
    if (rdma !== undefined) stats.rdma = rdma;
    const found = pids ?? cpu ?? memory ?? memoryEvents ?? io ?? hugetlb ?? rdma;
    return found === undefined ? undefined : stats;
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  #file(name: string): CgroupFile {
    const file = new CgroupFile(`${this.#directory}/${name}`);
    this.#files.push(file);
    return file;
  }

  #samplePids(): CgroupV2Stats['pids'] {
    const current = countOf(this.#pids.current);
    return current === undefined ? undefined : { current, limit: countOf(this.#pids.max) ?? 0n };
  }

  #sampleCpu(): CgroupV2Stats['cpu'] {
    const stat = countersOf(this.#cpu.stat, names.cpu);
    if (stat === undefined) return undefined;
    const pressure = pressureOf(this.#cpu.pressure);
    return pressure === undefined ? { stat } : { stat, pressure };
  }

  #sampleMemory(): CgroupV2Stats['memory'] {
    const stat = countersOf(this.#memory.stat, names.memory);
    if (stat === undefined) return undefined;
    const memory: NonNullable<CgroupV2Stats['memory']> = { stat };
    for (const [index, [field]] of MEMORY_FIELDS.entries()) {
      const value = countOf(this.#memory.counts[index]!);
      if (value !== undefined) memory[field] = value;
    }
    const pressure = pressureOf(this.#memory.pressure);
    if (pressure !== undefined) memory.pressure = pressure;
    return memory;
  }

  #sampleIo(): CgroupV2Stats['io'] {
    const usage = parsed(this.#io.stat, parseIoStat);
    if (usage === undefined) return undefined;
    const pressure = pressureOf(this.#io.pressure);
    return pressure === undefined ? { usage } : { usage, pressure };
  }

  #sampleHugetlb(): CgroupV2Stats['hugetlb'] {
    this.#hugetlb ??= hugePageSizes(this.#directory).map((pagesize) => {
      const file = (what: string) => this.#file(`hugetlb.${pagesize}.${what}`);
      return { pagesize, current: file('current'), max: file('max'), events: file('events') };
    });
    const found: NonNullable<CgroupV2Stats['hugetlb']> = [];
    for (const { pagesize, ...files } of this.#hugetlb) {
      const current = countOf(files.current);
      if (current === undefined) continue;
      const max = countOf(files.max) ?? 0n;
      found.push({ pagesize, current, max, failcnt: countersOf(files.events, [])?.['max'] ?? 0n });
    }
    return found.length === 0 ? undefined : found;
  }

  #sampleRdma(): CgroupV2Stats['rdma'] {
    const current = parsed(this.#rdma.current, parseRdma);
    return current && { current, limit: parsed(this.#rdma.max, parseRdma) ?? [] };
  }
}

function parsed<T>(file: CgroupFile, parse: (text: Text) => T): T | undefined {
  const text = file.text();
  return text === undefined ? undefined : parse(text);
}

function pressureOf(file: CgroupFile): Pressure | undefined {
  return parsed(file, parsePressure);
}
