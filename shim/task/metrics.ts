/** A cgroup sample as the message that containerd expects in Stats: io.containerd.cgroups.v1.Metrics or v2.Metrics in an Any. */
import type { CgroupStats, CgroupV1Stats, CgroupV2Stats, Pressure } from '../../src/cgroup/stats.ts';
import type { Any } from '../gen/google/protobuf/any.ts';
import {
  BlkIOStat,
  MemoryStat as MemoryV1,
  type MemoryEntry as MemoryV1Entry,
  Metrics as MetricsV1,
} from '../gen/io/containerd/cgroups/v1/metrics.ts';
import {
  CPUStat,
  type DeepPartial,
  MemoryEvents,
  MemoryStat as MemoryV2,
  Metrics as MetricsV2,
  type PSIStats,
} from '../gen/io/containerd/cgroups/v2/metrics.ts';

/** A bare name without a slash, as containerd compares it literally. */
export const METRICS_V1 = 'io.containerd.cgroups.v1.Metrics';
export const METRICS_V2 = 'io.containerd.cgroups.v2.Metrics';

export function encodeMetrics(stats: CgroupStats): Any {
  return stats.version === 1
    ? { typeUrl: METRICS_V1, value: Buffer.from(MetricsV1.encode(metricsV1(stats)).finish()) }
    : { typeUrl: METRICS_V2, value: Buffer.from(MetricsV2.encode(metricsV2(stats)).finish()) };
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

/** A message's fields by the kernel's names; undefined: it has none for it. Kept, as every sample has the same names. */
class Fields {
  readonly #known: object;
  readonly #names: Readonly<Record<string, string>>;
  readonly #fields = new Map<string, string | undefined>();

  constructor(known: object, names: Readonly<Record<string, string>>) {
    this.#known = known;
    this.#names = names;
  }

  /** The entries of a flat kernel file that the message has a field for. Several names that lead to one field add up. */
  pick(stat: Readonly<Record<string, bigint>>): Record<string, bigint> {
    const fields: Record<string, bigint> = {};
    for (const name in stat) {
      const field = this.#field(name);
      const value = stat[name];
      if (field === undefined || value === undefined) continue;
      const before = fields[field];
      fields[field] = before === undefined ? value : before + value;
    }
    return fields;
  }

  #field(name: string): string | undefined {
    if (this.#fields.has(name)) return this.#fields.get(name);
    const field = this.#names[name] ?? camel(name);
    const found = typeof (this.#known as Record<string, unknown>)[field] === 'bigint' ? field : undefined;
    this.#fields.set(name, found);
    return found;
  }
}

function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
}

const v1Memory = new Fields(MemoryV1.fromPartial({}), v1Names);
const v2Memory = new Fields(MemoryV2.fromPartial({}), v2Names);
const v2Cpu = new Fields(CPUStat.fromPartial({}), {});
const v2Events = new Fields(MemoryEvents.fromPartial({}), {});

function metricsV1(stats: CgroupV1Stats): MetricsV1 {
  const { pids, cpu, memory, oomControl, blkio, hugetlb, rdma } = stats;
  return MetricsV1.fromPartial({
    hugetlb,
    pids,
    cpu: cpu && {
      usage: { total: cpu.total, kernel: cpu.kernel, user: cpu.user, perCpu: cpu.perCpu },
      throttling: {
        periods: cpu.periods,
        throttledPeriods: cpu.throttledPeriods,
        throttledTime: cpu.throttledTime,
      },
    },
    memory: memory && {
      ...v1Memory.pick(memory.stat),
      usage: memory.usage satisfies MemoryV1Entry | undefined,
      swap: memory.swap,
      kernel: memory.kernel,
      kernelTcp: memory.kernelTcp,
    },
    blkio: blkio && BlkIOStat.fromPartial(blkio),
    rdma,
    memoryOomControl: oomControl,
  });
}

function metricsV2(stats: CgroupV2Stats): MetricsV2 {
  const { pids, cpu, memory, memoryEvents, io, hugetlb, rdma } = stats;
  return MetricsV2.fromPartial({
    pids,
    cpu: cpu && { ...v2Cpu.pick(cpu.stat), psi: psi(cpu.pressure) },
    memory: memory && {
      ...v2Memory.pick(memory.stat),
      usage: memory.usage,
      usageLimit: memory.usageLimit,
      swapUsage: memory.swapUsage,
      swapLimit: memory.swapLimit,
      maxUsage: memory.maxUsage,
      swapMaxUsage: memory.swapMaxUsage,
      psi: psi(memory.pressure),
    },
    rdma,
    io: io && { usage: io.usage, psi: psi(io.pressure) },
    hugetlb,
    memoryEvents: memoryEvents && v2Events.pick(memoryEvents),
  });
}

function psi(pressure: Pressure | undefined): DeepPartial<PSIStats> | undefined {
  return pressure && { some: pressure.some, full: pressure.full };
}
