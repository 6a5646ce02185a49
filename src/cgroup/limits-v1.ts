/** linux.resources as values for the files of cgroup v1. Source: the kernel's Documentation/admin-guide/cgroup-v1. */
import type { Int64, LinuxResources } from '../oci/types.ts';
import { FIELD, isSet, NO_FLAT_HIERARCHY, type Setting, type Settings } from './setting.ts';

/** What the values depend on beside config.json. */
export interface CgroupFacts {
  /** The cgroup is made by this plan, so values that are the kernel's defaults need not be written. */
  fresh: boolean;
  /** v1: block I/O weights belong to the bfq scheduler. Asked only when there is a weight. */
  bfq: () => boolean;
}

export function limitsV1(resources: LinuxResources, { fresh, bfq }: CgroupFacts): Settings {
  const result: Settings = { settings: [], warnings: [] };
  memory(resources, fresh, result);
  cpu(resources, fresh, result.settings);
  cpuset(resources, result.settings);
  pids(resources, fresh, result.settings);
  blockIo(resources, bfq, result.settings);
  others(resources, result.settings);
  return result;
}

function memory({ memory }: LinuxResources, fresh: boolean, { settings, warnings }: Settings): void {
  if (memory === undefined) return;
  const set = (name: string, file: string, value: Int64 | string, mayFail?: string[]) =>
    settings.push({
      controller: 'memory',
      file: `memory.${file}`,
      value: String(value),
      field: `${FIELD}.memory.${name}`,
      ...(mayFail && { mayFail }),
    });
  // No limit is what a new cgroup has.
  const wanted = (value: Int64 | undefined): value is Int64 => isSet(value) && !(fresh && value < 0);
  const { limit, swap, reservation, kernel, kernelTCP, swappiness } = memory;
  // memory.memsw may never be below memory. In an old cgroup it may have to rise before, and has to fall after.
  if (!fresh && (isSet(swap) || (isSet(limit) && limit < 0))) {
    set('swap', 'memsw.limit_in_bytes', swap ?? -1, ['ENOENT', 'EINVAL', 'EBUSY']);
  }
  if (wanted(limit)) set('limit', 'limit_in_bytes', limit);
  // The file is missing where swap is not accounted; there "no limit" is already true.
  if (wanted(swap)) set('swap', 'memsw.limit_in_bytes', swap, swap < 0 ? ['ENOENT'] : undefined);
  if (wanted(reservation)) set('reservation', 'soft_limit_in_bytes', reservation);
  if (wanted(kernelTCP)) set('kernelTCP', 'kmem.tcp.limit_in_bytes', kernelTCP);
  if (swappiness !== undefined) set('swappiness', 'swappiness', swappiness);
  if (memory.disableOOMKiller === true) set('disableOOMKiller', 'oom_control', 1);
  if (isSet(kernel)) warnings.push(`${FIELD}.memory.kernel is ignored: kernel memory counts as memory`);
  // Since Linux 5.11 a limit always holds for the cgroups below, and only that can be written.
  if (memory.useHierarchy === true) set('useHierarchy', 'use_hierarchy', 1, ['ENOENT', 'EINVAL', 'EBUSY']);
  if (memory.useHierarchy === false) warnings.push(NO_FLAT_HIERARCHY);
}

function cpu({ cpu }: LinuxResources, fresh: boolean, settings: Setting[]): void {
  if (cpu === undefined) return;
  const set = (name: string, file: string, value: Int64, mayFail?: string[]) =>
    settings.push({
      controller: 'cpu',
      file: `cpu.${file}`,
      value: String(value),
      field: `${FIELD}.cpu.${name}`,
      ...(mayFail && { mayFail }),
    });
  const isDefault = (value: Int64, usual: number) => fresh && Number(value) === usual;
  // An idle cgroup takes no shares, so it stops being idle before and becomes so after.
  if (cpu.idle === 0 && !fresh) set('idle', 'idle', 0, ['ENOENT']);
  if (cpu.idle !== 1 && isSet(cpu.shares) && !isDefault(cpu.shares, 1024))
    set('shares', 'shares', cpu.shares);
  // Quota over period may not pass the parent's, nor burst the quota: on a cgroup that has values already each
  // may be possible only before the others or only after them.
  const again = !fresh && isSet(cpu.quota);
  if (again && cpu.burst !== undefined) set('burst', 'cfs_burst_us', cpu.burst, ['EINVAL', 'ENOENT']);
  if (isSet(cpu.period) && !isDefault(cpu.period, 100_000)) {
    set('period', 'cfs_period_us', cpu.period, again ? ['EINVAL'] : undefined);
  }
  if (isSet(cpu.quota) && !(fresh && cpu.quota < 0)) set('quota', 'cfs_quota_us', cpu.quota);
  if (again && isSet(cpu.period)) set('period', 'cfs_period_us', cpu.period);
  if (cpu.burst !== undefined && !isDefault(cpu.burst, 0)) set('burst', 'cfs_burst_us', cpu.burst);
  if (isSet(cpu.realtimePeriod)) set('realtimePeriod', 'rt_period_us', cpu.realtimePeriod);
  if (isSet(cpu.realtimeRuntime)) set('realtimeRuntime', 'rt_runtime_us', cpu.realtimeRuntime);
  if (cpu.idle === 1) set('idle', 'idle', 1);
}

function cpuset({ cpu }: LinuxResources, settings: Setting[]): void {
  for (const name of ['cpus', 'mems'] as const) {
    const value = cpu?.[name];
    if (value)
      settings.push({ controller: 'cpuset', file: `cpuset.${name}`, value, field: `${FIELD}.cpu.${name}` });
  }
}

/** 0 is a real limit (runtime-spec 1.3); -1 is none. */
function pids({ pids }: LinuxResources, fresh: boolean, settings: Setting[]): void {
  const limit = pids?.limit;
  if (limit === undefined || (fresh && limit < 0)) return;
  const value = limit < 0 ? 'max' : String(limit);
  settings.push({ controller: 'pids', file: 'pids.max', value, field: `${FIELD}.pids.limit` });
}

function blockIo({ blockIO }: LinuxResources, bfq: () => boolean, settings: Setting[]): void {
  if (blockIO === undefined) return;
  const set = (name: string, file: string, value: string) =>
    settings.push({ controller: 'blkio', file: `blkio.${file}`, value, field: `${FIELD}.blockIO.${name}` });
  // Weights are the scheduler's: bfq has files of its own; before Linux 5.0 cfq had the plain names.
  const weighted = isSet(blockIO.weight) || (blockIO.weightDevice?.length ?? 0) > 0;
  const prefix = weighted && bfq() ? 'bfq.' : '';
  if (isSet(blockIO.weight)) set('weight', `${prefix}weight`, String(blockIO.weight));
  if (isSet(blockIO.leafWeight)) set('leafWeight', 'leaf_weight', String(blockIO.leafWeight));
  for (const [index, { major, minor, weight, leafWeight }] of (blockIO.weightDevice ?? []).entries()) {
    const name = `weightDevice[${index}]`;
    if (isSet(weight)) set(`${name}.weight`, `${prefix}weight_device`, `${major}:${minor} ${weight}`);
    if (isSet(leafWeight)) set(`${name}.leafWeight`, 'leaf_weight_device', `${major}:${minor} ${leafWeight}`);
  }
  const throttles = [
    ['throttleReadBpsDevice', 'throttle.read_bps_device'],
    ['throttleWriteBpsDevice', 'throttle.write_bps_device'],
    ['throttleReadIOPSDevice', 'throttle.read_iops_device'],
    ['throttleWriteIOPSDevice', 'throttle.write_iops_device'],
  ] as const;
  for (const [name, file] of throttles) {
    for (const [index, { major, minor, rate }] of (blockIO[name] ?? []).entries()) {
      set(`${name}[${index}]`, file, `${major}:${minor} ${rate}`);
    }
  }
}

function others({ hugepageLimits, network, rdma }: LinuxResources, settings: Setting[]): void {
  for (const [index, { pageSize, limit }] of (hugepageLimits ?? []).entries()) {
    const field = `${FIELD}.hugepageLimits[${index}]`;
    const base = { controller: 'hugetlb', value: String(limit), field };
    settings.push({ ...base, file: `hugetlb.${pageSize}.limit_in_bytes` });
    // Reservations came with Linux 5.7.
    settings.push({ ...base, file: `hugetlb.${pageSize}.rsvd.limit_in_bytes`, mayFail: ['ENOENT'] });
  }
  if (isSet(network?.classID)) {
    const field = `${FIELD}.network.classID`;
    settings.push({ controller: 'net_cls', file: 'net_cls.classid', value: String(network.classID), field });
  }
  for (const [index, { name, priority }] of (network?.priorities ?? []).entries()) {
    const field = `${FIELD}.network.priorities[${index}]`;
    settings.push({
      controller: 'net_prio',
      file: 'net_prio.ifpriomap',
      value: `${name} ${priority}`,
      field,
    });
  }
  settings.push(...rdmaLimits(rdma));
}

/** rdma.max is the same file in both versions (rdma.rst). */
export function rdmaLimits(rdma: LinuxResources['rdma']): Setting[] {
  return Object.entries(rdma ?? {}).map(([device, { hcaHandles, hcaObjects }]) => ({
    controller: 'rdma',
    file: 'rdma.max',
    value: [
      device,
      ...(hcaHandles === undefined ? [] : [`hca_handle=${hcaHandles}`]),
      ...(hcaObjects === undefined ? [] : [`hca_object=${hcaObjects}`]),
    ].join(' '),
    field: `${FIELD}.rdma.${device}`,
  }));
}
