/** linux.resources as values for the files of cgroup v2. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst. */
import { WherryError } from '../errors.ts';
import type { Int64, LinuxResources } from '../oci/types.ts';
import { rdmaLimits } from './limits-v1.ts';
import { FIELD, isSet, type Setting, type Settings } from './setting.ts';

/** `fresh`: the cgroup is made by this plan, so values that are the kernel's defaults need not be written. */
export function limitsV2(resources: LinuxResources, fresh: boolean): Settings {
  const result: Settings = { settings: [], warnings: [] };
  memory(resources, fresh, result);
  cpu(resources, fresh, result);
  pids(resources, fresh, result.settings);
  blockIo(resources, result);
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
  for (const name of ['kernelTCP', 'swappiness', 'disableOOMKiller'] as const) {
    if (memory[name]) warnings.push(`${FIELD}.memory.${name} is ignored: cgroup v2 has nothing like it`);
  }
}

function cpu({ cpu }: LinuxResources, fresh: boolean, { settings, warnings }: Settings): void {
  if (cpu === undefined) return;
  const set = (name: string, file: string, value: string) =>
    settings.push({ controller: file.split('.')[0]!, file, value, field: `${FIELD}.cpu.${name}` });
  const weight = isSet(cpu.shares) ? weightOfShares(Number(cpu.shares)) : 100;
  // An idle cgroup has no weight: the kernel refuses one.
  if (cpu.idle === 1) set('idle', 'cpu.idle', '1');
  else if (isSet(cpu.shares) && !(fresh && weight === 100)) set('shares', 'cpu.weight', String(weight));
  if (isSet(cpu.quota) || isSet(cpu.period)) {
    const quota = isSet(cpu.quota) && cpu.quota > 0 ? String(cpu.quota) : 'max';
    const period = isSet(cpu.period) ? String(cpu.period) : '';
    if (!fresh || quota !== 'max' || (period !== '' && period !== '100000')) {
      set(isSet(cpu.quota) ? 'quota' : 'period', 'cpu.max', period === '' ? quota : `${quota} ${period}`);
    }
  }
  if (isSet(cpu.burst)) set('burst', 'cpu.max.burst', String(cpu.burst));
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

function blockIo({ blockIO }: LinuxResources, { settings, warnings }: Settings): void {
  if (blockIO === undefined) return;
  const set = (name: string, file: string, value: string, mayFail?: string[]) =>
    settings.push({
      controller: 'io',
      file: `io.${file}`,
      value,
      field: `${FIELD}.blockIO.${name}`,
      ...(mayFail && { mayFail }),
    });
  // Each of the two schedulers has a file of its own, which the root of the hierarchy does not show, so both are told.
  // bfq takes 1 to 1000 as config.json has it; io.weight takes 1 to 10000.
  const setWeight = (name: string, device: string, weight: number) => {
    set(name, 'bfq.weight', `${device}${weight}`, ['ENOENT']);
    set(name, 'weight', `${device}${1 + Math.trunc(((Math.max(weight, 10) - 10) * 9999) / 990)}`, ['ENOENT']);
  };
  if (isSet(blockIO.weight)) setWeight('weight', '', blockIO.weight);
  for (const [index, { major, minor, weight }] of (blockIO.weightDevice ?? []).entries()) {
    if (isSet(weight)) setWeight(`weightDevice[${index}].weight`, `${major}:${minor} `, weight);
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
    // One write a line: the kernel takes one device of io.max at a time.
    for (const line of value.split('\n').filter((text) => text.trim() !== '')) {
      settings.push({ controller: file.slice(0, file.indexOf('.')), file, value: line, field });
    }
  }
}
