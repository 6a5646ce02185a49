/** linux.resources as values for the files of cgroup v2. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst. */
import { WherryError } from '../errors.ts';
import type { Int64, LinuxResources } from '../oci/types.ts';
import { rdmaLimits } from './limits-v1.ts';
import { FIELD, isSet, NO_FLAT_HIERARCHY, type Setting, type Settings } from './setting.ts';

/** What the values depend on beside config.json. */
export interface CgroupV2Facts {
  /** The cgroup is made by this plan, so values that are the kernel's defaults need not be written. */
  fresh: boolean;
  /** The kernel has io.weight (blk-iocost). Asked only when there is a weight, as the next. */
  ioWeight: () => boolean;
  /** bfq schedules the device `major:minor`. */
  bfqOf: (device: string) => boolean;
}

export function limitsV2(resources: LinuxResources, facts: CgroupV2Facts): Settings {
  const { fresh } = facts;
  const result: Settings = { settings: [], warnings: [] };
  memory(resources, fresh, result);
  cpu(resources, fresh, result);
  pids(resources, fresh, result.settings);
  blockIo(resources, facts, result);
  others(resources, result);
  unified(resources, result.settings);
  return result;
}

const maxOr = (value: Int64) => (value < 0 ? 'max' : String(value));

function memory({ memory }: LinuxResources, fresh: boolean, { settings, warnings }: Settings): void {
  if (memory === undefined) return;
  const set = (name: string, file: string, value: string, mayFail?: string[]) =>
    settings.push({
      controller: 'memory',
      file: `memory.${file}`,
      value,
      field: `${FIELD}.memory.${name}`,
      ...(mayFail && { mayFail }),
    });
  const { limit, swap, reservation } = memory;
  if (isSet(limit) && !(fresh && limit < 0)) set('limit', 'max', maxOr(limit));
  if (isSet(swap)) {
    // config.json gives the sum, v2 has swap alone. Without swap in the kernel "none" and "no limit" are already true.
    const alone = swap < 0 ? -1n : BigInt(swap) - BigInt(limit ?? 0);
    if (alone >= 0n || !fresh) set('swap', 'swap.max', maxOr(alone), alone <= 0n ? ['ENOENT'] : undefined);
  } else if (isSet(limit) && limit < 0 && !fresh) {
    set('swap', 'swap.max', 'max', ['ENOENT']);
  }
  if (isSet(reservation) && !(fresh && reservation < 0)) set('reservation', 'low', maxOr(reservation));
  if (isSet(memory.kernel))
    warnings.push(`${FIELD}.memory.kernel is ignored: kernel memory counts as memory`);
  if (memory.useHierarchy === false) warnings.push(NO_FLAT_HIERARCHY);
  for (const name of ['kernelTCP', 'swappiness', 'disableOOMKiller'] as const) {
    if (memory[name]) warnings.push(`${FIELD}.memory.${name} is ignored: cgroup v2 has nothing like it`);
  }
}

function cpu({ cpu }: LinuxResources, fresh: boolean, { settings, warnings }: Settings): void {
  if (cpu === undefined) return;
  const set = (name: string, file: string, value: string, mayFail?: string[]) => {
    const controller = file.split('.')[0]!;
    settings.push({ controller, file, value, field: `${FIELD}.cpu.${name}`, ...(mayFail && { mayFail }) });
  };
  const weight = isSet(cpu.shares) ? weightOfShares(Number(cpu.shares)) : 100;
  // An idle cgroup has no weight: the kernel refuses one.
  if (cpu.idle === 1) set('idle', 'cpu.idle', '1');
  if (cpu.idle === 0 && !fresh) set('idle', 'cpu.idle', '0', ['ENOENT']);
  if (cpu.idle !== 1 && isSet(cpu.shares) && !(fresh && weight === 100)) {
    set('shares', 'cpu.weight', String(weight));
  }
  // The burst may not pass the quota: with a smaller one it has to fall before, with a larger one to rise after.
  const burst = cpu.burst !== undefined && !(fresh && !isSet(cpu.burst)) ? String(cpu.burst) : undefined;
  if (burst !== undefined && !fresh && isSet(cpu.quota))
    set('burst', 'cpu.max.burst', burst, ['EINVAL', 'ENOENT']);
  if (isSet(cpu.quota) || isSet(cpu.period)) {
    const quota = isSet(cpu.quota) && cpu.quota > 0 ? String(cpu.quota) : 'max';
    const period = isSet(cpu.period) ? String(cpu.period) : '';
    if (!fresh || quota !== 'max' || (period !== '' && period !== '100000')) {
      set(isSet(cpu.quota) ? 'quota' : 'period', 'cpu.max', period === '' ? quota : `${quota} ${period}`);
    }
  }
  if (burst !== undefined) set('burst', 'cpu.max.burst', burst);
  if (cpu.cpus) set('cpus', 'cpuset.cpus', cpu.cpus);
  if (cpu.mems) set('mems', 'cpuset.mems', cpu.mems);
  for (const name of ['realtimePeriod', 'realtimeRuntime'] as const) {
    if (isSet(cpu[name])) warnings.push(`${FIELD}.cpu.${name} is ignored: cgroup v2 has nothing like it`);
  }
}

/**
 * v1 shares (2 to 262144, default 1024) as a v2 weight (1 to 10000, default 100). The curve goes through both ends and
 * both defaults; it is the one that runc 1.4, crun 1.23 and systemd's users have agreed on.
 */
export function weightOfShares(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** 0 is a real limit (runtime-spec 1.3); -1 is none. */
function pids({ pids }: LinuxResources, fresh: boolean, settings: Setting[]): void {
  const limit = pids?.limit;
  if (limit === undefined || (fresh && limit < 0)) return;
  settings.push({ controller: 'pids', file: 'pids.max', value: maxOr(limit), field: `${FIELD}.pids.limit` });
}

function blockIo({ blockIO }: LinuxResources, facts: CgroupV2Facts, { settings, warnings }: Settings): void {
  if (blockIO === undefined) return;
  const set = (name: string, file: string, value: string, mayFail?: string[]) =>
    settings.push({
      controller: 'io',
      file: `io.${file}`,
      value,
      field: `${FIELD}.blockIO.${name}`,
      ...(mayFail && { mayFail }),
    });
  // Two schedulers know weights, each by a file of its own, which the root of the hierarchy does not show. One must be told: bfq where
  // it schedules the device or nothing else has weights, else blk-iocost. bfq takes 1 to 1000 as config.json has it, the other 1 to 10000.
  const setWeight = (name: string, device: string, weight: number) => {
    const prefix = device === '' ? '' : `${device} `;
    const byBfq = !facts.ioWeight() || (device !== '' && facts.bfqOf(device));
    const optional = ['ENOENT', 'EOPNOTSUPP', 'ENODEV', 'EINVAL'];
    set(name, 'bfq.weight', `${prefix}${weight}`, byBfq ? undefined : optional);
    if (!facts.ioWeight()) return;
    const scaled = 1 + Math.trunc(((weight - 10) * 9999) / 990);
    set(name, 'weight', `${prefix}${scaled}`, byBfq ? optional : undefined);
  };
  if (isSet(blockIO.weight)) setWeight('weight', '', blockIO.weight);
  for (const [index, { major, minor, weight }] of (blockIO.weightDevice ?? []).entries()) {
    if (isSet(weight)) setWeight(`weightDevice[${index}].weight`, `${major}:${minor}`, weight);
  }
  if (isSet(blockIO.leafWeight))
    warnings.push(`${FIELD}.blockIO.leafWeight is ignored: cgroup v2 has nothing like it`);
  const throttles = [
    ['throttleReadBpsDevice', 'rbps'],
    ['throttleWriteBpsDevice', 'wbps'],
    ['throttleReadIOPSDevice', 'riops'],
    ['throttleWriteIOPSDevice', 'wiops'],
  ] as const;
  for (const [name, key] of throttles) {
    for (const [index, { major, minor, rate }] of (blockIO[name] ?? []).entries()) {
      set(`${name}[${index}]`, 'max', `${major}:${minor} ${key}=${isSet(rate) ? rate : 'max'}`);
    }
  }
}

function others({ hugepageLimits, network, rdma }: LinuxResources, { settings, warnings }: Settings): void {
  for (const [index, { pageSize, limit }] of (hugepageLimits ?? []).entries()) {
    const base = { controller: 'hugetlb', value: String(limit), field: `${FIELD}.hugepageLimits[${index}]` };
    settings.push({ ...base, file: `hugetlb.${pageSize}.max` });
    settings.push({ ...base, file: `hugetlb.${pageSize}.rsvd.max`, mayFail: ['ENOENT'] });
  }
  if (isSet(network?.classID) || network?.priorities?.length) {
    warnings.push(`${FIELD}.network is ignored: cgroup v2 has nothing like it`);
  }
  settings.push(...rdmaLimits(rdma));
}

/** Files whose values are orders: they would move, freeze or kill whoever is in the cgroup, the writer first. */
const UNTOUCHABLE: ReadonlySet<string> = new Set([
  'cgroup.procs',
  'cgroup.threads',
  'cgroup.type',
  'cgroup.kill',
  'cgroup.freeze',
]);

/** Files by name, as they are; they come last, so they win. A name with a slash would leave the cgroup. */
function unified({ unified }: LinuxResources, settings: Setting[]): void {
  for (const [file, value] of Object.entries(unified ?? {})) {
    const field = `${FIELD}.unified["${file}"]`;
    if (!/^[A-Za-z0-9_]+\.[A-Za-z0-9_.-]+$/.test(file)) {
      throw new WherryError(
        'invalid-argument',
        `${field}: not the name of a cgroup v2 file, such as memory.high`,
        {
          path: field,
        },
      );
    }
    if (UNTOUCHABLE.has(file)) {
      throw new WherryError(
        'invalid-argument',
        `${field}: not a limit but an act on the container's processes`,
        {
          path: field,
          hint: 'remove it; processes are moved, frozen and killed by the runtime',
        },
      );
    }
    // One write a line: the kernel takes one device of io.max at a time.
    for (const line of value.split('\n').filter((text) => text.trim() !== '')) {
      settings.push({ controller: file.slice(0, file.indexOf('.')), file, value: line, field });
    }
  }
}
