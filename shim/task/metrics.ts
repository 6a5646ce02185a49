/** A cgroup sample as the message that containerd expects in Stats: io.containerd.cgroups.v1.Metrics or v2.Metrics in an Any. */
import type {
  BlkioEntry,
  CgroupStats,
  CgroupV1Stats,
  CgroupV2Stats,
  HugetlbV1,
  MemoryEntry,
  Pressure,
  PressureLine,
  RdmaEntry,
} from '../../src/cgroup/stats.ts';
import { StatsResponse } from '../gen/containerd/task/v2/shim.ts';
import type { Any } from '../gen/google/protobuf/any.ts';
import { MemoryStat as MemoryV1 } from '../gen/io/containerd/cgroups/v1/metrics.ts';
import { CPUStat, MemoryEvents, MemoryStat as MemoryV2 } from '../gen/io/containerd/cgroups/v2/metrics.ts';
import type { Codec } from '../ttrpc/service.ts';
import { MessageWriter } from './message-writer.ts';

/** A bare name without a slash, as containerd compares it literally. */
export const METRICS_V1 = 'io.containerd.cgroups.v1.Metrics';
export const METRICS_V2 = 'io.containerd.cgroups.v2.Metrics';

const writer = new MessageWriter();

export function encodeMetrics(stats: CgroupStats): Any {
  return stats.version === 1
    ? { typeUrl: METRICS_V1, value: writer.message(stats, writeV1) }
    : { typeUrl: METRICS_V2, value: writer.message(stats, writeV2) };
}

/** The answer to Stats in one go. */
export const statsResponse: Codec<StatsResponse> = {
  encode(response) {
    const message = writer.message(response, ({ stats }) => inside(1, stats, writeAny));
    return { finish: () => message };
  },
  decode: (bytes) => StatsResponse.decode(bytes),
};

function writeAny({ typeUrl, value }: Any): void {
  writer.text(1, typeUrl);
  writer.bytes(2, value);
}

/** Names of memory.stat whose field is not simply the camel-cased name. */
const v1Names: Readonly<Record<string, string>> = {
  pgpgin: 'pgPgIn',
  pgpgout: 'pgPgOut',
  pgfault: 'pgFault',
  pgmajfault: 'pgMajFault',
  total_pgpgin: 'totalPgPgIn',
  total_pgpgout: 'totalPgPgOut',
  total_pgfault: 'totalPgFault',
  total_pgmajfault: 'totalPgMajFault',
  hierarchical_memsw_limit: 'hierarchicalSwapLimit',
};
const v2Names: Readonly<Record<string, string>> = {
  // Since Linux 5.9 the kernel counts these for anonymous memory and files apart.
  workingset_refault_anon: 'workingsetRefault',
  workingset_refault_file: 'workingsetRefault',
  workingset_activate_anon: 'workingsetActivate',
  workingset_activate_file: 'workingsetActivate',
};

/** A generated codec, as far as it is asked here. */
interface Known<T> extends Pick<Codec<T>, 'encode'> {
  fromPartial(part: object): T;
}

/** A message's counts by the kernel's names. What the message has no field for is left out, and most often asked for in vain. */
class Fields<T extends object> {
  readonly #codec: Known<T>;
  readonly #names: Readonly<Record<string, string>>;
  #fields: { field: number; names: string[] }[] | undefined;

  constructor(codec: Known<T>, names: Readonly<Record<string, string>>) {
    this.#codec = codec;
    this.#names = names;
  }

  /** Several names that lead to one field add up. */
  write(stat: Readonly<Record<string, bigint>>): void {
    this.#fields ??= this.#all();
    for (const { field, names } of this.#fields) {
      let sum = stat[names[0]!];
      for (let index = 1; index < names.length; index++) {
        const more = stat[names[index]!];
        if (more !== undefined) sum = (sum ?? 0n) + more;
      }
      writer.count(field, sum);
    }
  }

  #all(): { field: number; names: string[] }[] {
    return Object.entries(this.#codec.fromPartial({})).flatMap(([property, value]) => {
      if (typeof value !== 'bigint') return [];
      const others = Object.keys(this.#names).filter((name) => this.#names[name] === property);
      return [{ field: this.#numberOf(property), names: [snake(property), ...others] }];
    });
  }

  /** Of a message that holds only this: its first bytes are the tag. */
  #numberOf(property: string): number {
    const one = this.#codec.fromPartial({ [property]: 1n });
    const [first = 0, second = 0] = this.#codec.encode(one).finish();
    return (first < 128 ? first : (first & 127) | (second << 7)) >>> 3;
  }
}

function snake(property: string): string {
  return property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

const v1Memory = new Fields(MemoryV1, v1Names);
const v2Memory = new Fields(MemoryV2, v2Names);
const v2Cpu = new Fields(CPUStat, {});
const v2Events = new Fields(MemoryEvents, {});

/** A message inside the one that is being written; nothing where there is no value. */
function inside<T>(field: number, value: T | undefined, write: (value: T) => void): void {
  if (value === undefined) return;
  const start = writer.begin(field);
  write(value);
  writer.end(start);
}

function each<T>(field: number, values: readonly T[] | undefined, write: (value: T) => void): void {
  if (values !== undefined) for (const value of values) inside(field, value, write);
}

// The numbers are those of proto/io/containerd/cgroups; a test compares with the generated codec.

function writeV1({ pids, cpu, memory, oomControl, blkio, hugetlb, rdma }: CgroupV1Stats): void {
  each(1, hugetlb, writeHugetlbV1);
  inside(2, pids, writePids);
  inside(3, cpu, writeCpuV1);
  inside(4, memory, writeMemoryV1);
  inside(5, blkio, writeBlkio);
  inside(6, rdma, writeRdma);
  inside(9, oomControl, writeOomControl);
}

function writeHugetlbV1({ usage, max, failcnt, pagesize }: HugetlbV1): void {
  writer.count(1, usage);
  writer.count(2, max);
  writer.count(3, failcnt);
  writer.text(4, pagesize);
}

function writePids({ current, limit }: NonNullable<CgroupStats['pids']>): void {
  writer.count(1, current);
  writer.count(2, limit);
}

function writeCpuV1(cpu: NonNullable<CgroupV1Stats['cpu']>): void {
  const usage = writer.begin(1);
  writer.count(1, cpu.total);
  writer.count(2, cpu.kernel);
  writer.count(3, cpu.user);
  writer.counts(4, cpu.perCpu);
  writer.end(usage);
  const throttling = writer.begin(2);
  writer.count(1, cpu.periods);
  writer.count(2, cpu.throttledPeriods);
  writer.count(3, cpu.throttledTime);
  writer.end(throttling);
}

function writeMemoryV1({ stat, usage, swap, kernel, kernelTcp }: NonNullable<CgroupV1Stats['memory']>): void {
  v1Memory.write(stat);
  inside(33, usage, writeMemoryEntry);
  inside(34, swap, writeMemoryEntry);
  inside(35, kernel, writeMemoryEntry);
  inside(36, kernelTcp, writeMemoryEntry);
}

function writeMemoryEntry({ limit, usage, max, failcnt }: MemoryEntry): void {
  writer.count(1, limit);
  writer.count(2, usage);
  writer.count(3, max);
  writer.count(4, failcnt);
}

/** In the order of the message's fields. */
const BLKIO = [
  'ioServiceBytesRecursive',
  'ioServicedRecursive',
  'ioQueuedRecursive',
  'ioServiceTimeRecursive',
  'ioWaitTimeRecursive',
  'ioMergedRecursive',
  'ioTimeRecursive',
  'sectorsRecursive',
] as const;

function writeBlkio(blkio: NonNullable<CgroupV1Stats['blkio']>): void {
  for (let index = 0; index < BLKIO.length; index++) each(index + 1, blkio[BLKIO[index]!], writeBlkioEntry);
}

function writeBlkioEntry({ op, device, major, minor, value }: BlkioEntry): void {
  writer.text(1, op);
  writer.text(2, device);
  writer.count(3, major);
  writer.count(4, minor);
  writer.count(5, value);
}

function writeOomControl({
  oomKillDisable,
  underOom,
  oomKill,
}: NonNullable<CgroupV1Stats['oomControl']>): void {
  writer.count(1, oomKillDisable);
  writer.count(2, underOom);
  writer.count(3, oomKill);
}

function writeRdma({ current, limit }: NonNullable<CgroupStats['rdma']>): void {
  each(1, current, writeRdmaEntry);
  each(2, limit, writeRdmaEntry);
}

function writeRdmaEntry({ device, hcaHandles, hcaObjects }: RdmaEntry): void {
  writer.text(1, device);
  writer.small(2, hcaHandles);
  writer.small(3, hcaObjects);
}

function writeV2({ pids, cpu, memory, memoryEvents, io, hugetlb, rdma }: CgroupV2Stats): void {
  inside(1, pids, writePids);
  inside(2, cpu, writeCpuV2);
  inside(4, memory, writeMemoryV2);
  inside(5, rdma, writeRdma);
  inside(6, io, writeIo);
  each(7, hugetlb, writeHugetlbV2);
  inside(8, memoryEvents, writeEvents);
}

function writeCpuV2({ stat, pressure }: NonNullable<CgroupV2Stats['cpu']>): void {
  v2Cpu.write(stat);
  inside(7, pressure, writePressure);
}

function writeMemoryV2(memory: NonNullable<CgroupV2Stats['memory']>): void {
  v2Memory.write(memory.stat);
  writer.count(32, memory.usage);
  writer.count(33, memory.usageLimit);
  writer.count(34, memory.swapUsage);
  writer.count(35, memory.swapLimit);
  writer.count(36, memory.maxUsage);
  writer.count(37, memory.swapMaxUsage);
  inside(38, memory.pressure, writePressure);
}

function writeEvents(events: NonNullable<CgroupV2Stats['memoryEvents']>): void {
  v2Events.write(events);
}

function writeIo({ usage, pressure }: NonNullable<CgroupV2Stats['io']>): void {
  each(1, usage, writeIoEntry);
  inside(2, pressure, writePressure);
}

type IoEntry = NonNullable<CgroupV2Stats['io']>['usage'][number];

function writeIoEntry({ major, minor, rbytes, wbytes, rios, wios }: IoEntry): void {
  writer.count(1, major);
  writer.count(2, minor);
  writer.count(3, rbytes);
  writer.count(4, wbytes);
  writer.count(5, rios);
  writer.count(6, wios);
}

function writeHugetlbV2({
  current,
  max,
  pagesize,
  failcnt,
}: NonNullable<CgroupV2Stats['hugetlb']>[number]): void {
  writer.count(1, current);
  writer.count(2, max);
  writer.text(3, pagesize);
  writer.count(4, failcnt);
}

function writePressure({ some, full }: Pressure): void {
  inside(1, some, writePressureLine);
  inside(2, full, writePressureLine);
}

function writePressureLine({ avg10, avg60, avg300, total }: PressureLine): void {
  writer.double(1, avg10);
  writer.double(2, avg60);
  writer.double(3, avg300);
  writer.count(4, total);
}
