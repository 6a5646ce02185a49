/** A sample as the object that `runc events` prints; keys and their order are runc's (types/events.go). */
import type {
  BlkioEntry,
  CgroupStats,
  CgroupV1Stats,
  CgroupV2Stats,
  MemoryEntry,
  Pressure,
} from '../cgroup/stats.ts';

type Json = Record<string, unknown>;

export function statsData(stats: CgroupStats): Json {
  const data = stats.version === 1 ? fromV1(stats) : fromV2(stats);
  return { ...data, intel_rdt: {}, network_interfaces: null };
}

/** Go leaves out fields that are zero where the type says "omitempty". */
function filled(object: Json): Json {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => {
      if (value === undefined || value === 0 || value === 0n) return false;
      return !(Array.isArray(value) && value.length === 0);
    }),
  );
}

/** limit is always there, failcnt too. */
function entry({ limit, usage, max, failcnt }: MemoryEntry): Json {
  return { limit, ...filled({ usage, max }), failcnt };
}

const NO_ENTRY = { limit: 0, failcnt: 0 };

function fromV1({ cpu, memory, pids, blkio, hugetlb }: CgroupV1Stats): Json {
  const stat = memory?.stat ?? {};
  return {
    cpu: {
      usage: {
        ...filled({ total: cpu?.total, percpu: cpu?.perCpu }),
        kernel: cpu?.kernel ?? 0,
        user: cpu?.user ?? 0,
      },
      throttling: filled({
        periods: cpu?.periods,
        throttledPeriods: cpu?.throttledPeriods,
        throttledTime: cpu?.throttledTime,
      }),
    },
    cpuset: {},
    memory: {
      ...filled({ cache: stat['cache'] }),
      usage: memory?.usage === undefined ? NO_ENTRY : entry(memory.usage),
      swap: memory?.swap === undefined ? NO_ENTRY : entry(memory.swap),
      kernel: memory?.kernel === undefined ? NO_ENTRY : entry(memory.kernel),
      kernelTCP: memory?.kernelTcp === undefined ? NO_ENTRY : entry(memory.kernelTcp),
      ...(Object.keys(stat).length > 0 && { raw: sorted(stat) }),
    },
    pids: filled({ current: pids?.current, limit: pids?.limit }),
    blkio: blockIo(blkio ?? {}),
    hugetlb: Object.fromEntries(
      (hugetlb ?? []).map(({ pagesize, usage, max, failcnt }) => [
        pagesize,
        { ...filled({ usage, max }), failcnt },
      ]),
    ),
  };
}

/** runc's names of the lists; a list without lines is left out. */
const blockIoNames: Readonly<Record<string, string>> = {
  ioServiceBytesRecursive: 'ioServiceBytesRecursive',
  ioServicedRecursive: 'ioServicedRecursive',
  ioQueuedRecursive: 'ioQueueRecursive',
  ioServiceTimeRecursive: 'ioServiceTimeRecursive',
  ioWaitTimeRecursive: 'ioWaitTimeRecursive',
  ioMergedRecursive: 'ioMergedRecursive',
  ioTimeRecursive: 'ioTimeRecursive',
  sectorsRecursive: 'sectorsRecursive',
};

function blockIo(lists: Readonly<Record<string, BlkioEntry[]>>): Json {
  const result: Json = {};
  for (const [name, shown] of Object.entries(blockIoNames)) {
    const list = lists[name] ?? [];
    if (list.length > 0)
      result[shown] = list.map(({ major, minor, op, value }) => filled({ major, minor, op, value }));
  }
  return result;
}

function fromV2({ cpu, memory, pids, io, hugetlb }: CgroupV2Stats): Json {
  const stat = cpu?.stat ?? {};
  const nanoseconds = (name: string) => (stat[name] ?? 0n) * 1000n;
  const raw = memory?.stat ?? {};
  return {
    cpu: {
      usage: {
        ...filled({ total: nanoseconds('usage_usec') }),
        kernel: nanoseconds('system_usec'),
        user: nanoseconds('user_usec'),
      },
      throttling: filled({
        periods: stat['nr_periods'],
        throttledPeriods: stat['nr_throttled'],
        throttledTime: nanoseconds('throttled_usec'),
      }),
      ...pressure(cpu?.pressure),
    },
    cpuset: {},
    memory: {
      ...filled({ cache: raw['file'] }),
      usage: {
        limit: memory?.usageLimit ?? 0,
        ...filled({ usage: memory?.usage, max: memory?.maxUsage }),
        failcnt: 0,
      },
      swap: {
        limit: memory?.swapLimit ?? 0,
        ...filled({ usage: memory?.swapUsage, max: memory?.swapMaxUsage }),
        failcnt: 0,
      },
      kernel: NO_ENTRY,
      kernelTCP: NO_ENTRY,
      ...(Object.keys(raw).length > 0 && { raw: sorted(raw) }),
      ...pressure(memory?.pressure),
    },
    pids: filled({ current: pids?.current, limit: pids?.limit }),
    blkio: {
      ...(io !== undefined && io.usage.length > 0 && { ioServiceBytesRecursive: io.usage.flatMap(bytesOf) }),
      ...pressure(io?.pressure),
    },
    hugetlb: Object.fromEntries(
      (hugetlb ?? []).map(({ pagesize, current, max, failcnt }) => [
        pagesize,
        { ...filled({ usage: current, max }), failcnt },
      ]),
    ),
  };
}

function bytesOf(usage: { major: bigint; minor: bigint; rbytes: bigint; wbytes: bigint }): Json[] {
  const { major, minor, rbytes, wbytes } = usage;
  return [
    filled({ major, minor, op: 'Read', value: rbytes }),
    filled({ major, minor, op: 'Write', value: wbytes }),
  ];
}

function pressure(psi: Pressure | undefined): Json {
  return psi === undefined ? {} : { psi };
}

function sorted(stat: Readonly<Record<string, bigint>>): Json {
  return Object.fromEntries(Object.entries(stat).sort(([a], [b]) => (a < b ? -1 : 1)));
}
