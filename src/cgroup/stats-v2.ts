/** One sample from the files of cgroup v2, all in one folder. */
import { CgroupFiles } from './files.ts';
import { parseCount, parseIoStat, parseKeyed, parsePressure, parseRdma, type Text } from './parse.ts';
import type { CgroupV2Stats } from './stats.ts';

export class StatsV2 {
  readonly #files: CgroupFiles;
  readonly #names = { memory: [] as string[], cpu: [] as string[], events: [] as string[] };

  constructor(directory: string) {
    this.#files = new CgroupFiles(directory);
  }

  /** undefined when not one file could be read. */
  sample(): CgroupV2Stats | undefined {
    const stats: CgroupV2Stats = { version: 2, takenAt: new Date() };
    const empty = Object.keys(stats).length;
    const put = <K extends keyof CgroupV2Stats>(key: K, value: CgroupV2Stats[K] | undefined) => {
      if (value !== undefined) stats[key] = value;
    };
    put('pids', this.#pids());
    put('cpu', this.#cpu());
    put('memory', this.#memory());
    put(
      'memoryEvents',
      this.#read('memory.events', (text) => parseKeyed(text, this.#names.events)),
    );
    put('io', this.#io());
    put('hugetlb', this.#hugetlb());
    put('rdma', this.#rdma());
    return Object.keys(stats).length === empty ? undefined : stats;
  }

  close(): void {
    this.#files.close();
  }

  #read<T>(file: string, parse: (text: Text) => T): T | undefined {
    const text = this.#files.text(file);
    return text === undefined ? undefined : parse(text);
  }

  #count(file: string): bigint | undefined {
    return this.#read(file, parseCount);
  }

  #pids(): CgroupV2Stats['pids'] {
    const current = this.#count('pids.current');
    return current === undefined ? undefined : { current, limit: this.#count('pids.max') ?? 0n };
  }

  #cpu(): CgroupV2Stats['cpu'] {
    const stat = this.#read('cpu.stat', (text) => parseKeyed(text, this.#names.cpu));
    if (stat === undefined) return undefined;
    const pressure = this.#read('cpu.pressure', parsePressure);
    return { stat, ...(pressure && { pressure }) };
  }

  #memory(): CgroupV2Stats['memory'] {
    const stat = this.#read('memory.stat', (text) => parseKeyed(text, this.#names.memory));
    if (stat === undefined) return undefined;
    const memory: NonNullable<CgroupV2Stats['memory']> = { stat };
    for (const [field, file] of [
      ['usage', 'memory.current'],
      ['usageLimit', 'memory.max'],
      ['swapUsage', 'memory.swap.current'],
      ['swapLimit', 'memory.swap.max'],
      ['maxUsage', 'memory.peak'],
      ['swapMaxUsage', 'memory.swap.peak'],
    ] as const) {
      const value = this.#count(file);
      if (value !== undefined) memory[field] = value;
    }
    const pressure = this.#read('memory.pressure', parsePressure);
    if (pressure !== undefined) memory.pressure = pressure;
    return memory;
  }

  #io(): CgroupV2Stats['io'] {
    const usage = this.#read('io.stat', parseIoStat);
    if (usage === undefined) return undefined;
    const pressure = this.#read('io.pressure', parsePressure);
    return { usage, ...(pressure && { pressure }) };
  }

  #hugetlb(): CgroupV2Stats['hugetlb'] {
    const sizes = this.#files.hugePages();
    const found = sizes.flatMap((pagesize) => {
      const current = this.#count(`hugetlb.${pagesize}.current`);
      if (current === undefined) return [];
      const max = this.#count(`hugetlb.${pagesize}.max`) ?? 0n;
      const events = this.#read(`hugetlb.${pagesize}.events`, (text) => parseKeyed(text));
      return [{ pagesize, current, max, failcnt: events?.['max'] ?? 0n }];
    });
    return found.length === 0 ? undefined : found;
  }

  #rdma(): CgroupV2Stats['rdma'] {
    const current = this.#read('rdma.current', parseRdma);
    return current && { current, limit: this.#read('rdma.max', parseRdma) ?? [] };
  }
}
