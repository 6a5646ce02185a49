/**
 * linux.resources as properties of a unit. The container's files get the same values, and all others, from us; but systemd writes its own
 * whenever it reads its files again, so that whatever it has a property for must be told to it.
 * Sources: systemd.resource-control(5), org.freedesktop.systemd1(5).
 */
import { WherryError } from '../errors.ts';
import { type BusProperty, variant } from '../linux/sdbus.ts';
import type { Int64, LinuxResources } from '../oci/types.ts';
import type { CgroupMode } from './hierarchy.ts';
import { weightOfShares } from './limits-v2.ts';
import { isSet } from './setting.ts';

const INFINITY = 0xffff_ffff_ffff_ffffn;
const DEFAULT_PERIOD_US = 100_000;
const SECOND_US = 1_000_000n;
/** systemd keeps a quota as a whole number of percent. */
const PERCENT_US = 10_000n;
const MAX_CPUS = 8192;

export function resourceProperties(resources: LinuxResources, mode: CgroupMode): BusProperty[] {
  const { memory, cpu, pids, blockIO } = resources;
  const properties: BusProperty[] = [];
  const put = (name: string, value: bigint) => properties.push([name, variant('t', value)]);
  const v2 = mode === 'v2';
  const limit = (value: Int64) => (value < 0 ? INFINITY : BigInt(value));
  if (isSet(memory?.limit)) put(v2 ? 'MemoryMax' : 'MemoryLimit', limit(memory.limit));
  if (v2 && isSet(memory?.reservation)) put('MemoryLow', limit(memory.reservation));
  if (v2 && isSet(memory?.swap)) {
    put('MemorySwapMax', memory.swap < 0 ? INFINITY : BigInt(memory.swap) - BigInt(memory.limit ?? 0));
  }
  if (v2 && cpu?.idle === 1) put('CPUWeight', 0n);
  else if (isSet(cpu?.shares)) {
    if (v2) put('CPUWeight', BigInt(weightOfShares(Number(cpu.shares))));
    else put('CPUShares', BigInt(cpu.shares));
  }
  if (isSet(cpu?.period)) put('CPUQuotaPeriodUSec', BigInt(cpu.period));
  if (isSet(cpu?.quota)) put('CPUQuotaPerSecUSec', perSecond(cpu.quota, cpu.period ?? 0));
  if (v2 && cpu?.cpus) properties.push(['AllowedCPUs', variant('ay', bitmap(cpu.cpus, 'cpu.cpus'))]);
  if (v2 && cpu?.mems) properties.push(['AllowedMemoryNodes', variant('ay', bitmap(cpu.mems, 'cpu.mems'))]);
  if (pids?.limit !== undefined) put('TasksMax', limit(pids.limit));
  if (isSet(blockIO?.weight)) {
    if (v2) put('IOWeight', BigInt(1 + Math.trunc(((Math.max(blockIO.weight, 10) - 10) * 9999) / 990)));
    else put('BlockIOWeight', BigInt(blockIO.weight));
  }
  if (v2) unified(resources.unified ?? {}, properties);
  // The last word counts, as in the files.
  return [...new Map(properties).entries()];
}

/** µs of CPU a second. Rounded up, as systemd rounds down what it keeps. */
function perSecond(quota: Int64, period: Int64): bigint {
  if (quota < 0) return INFINITY;
  const length = isSet(period) ? BigInt(period) : BigInt(DEFAULT_PERIOD_US);
  const exact = (BigInt(quota) * SECOND_US) / length;
  return ((exact + PERCENT_US - 1n) / PERCENT_US) * PERCENT_US;
}

const bytes: Readonly<Record<string, string>> = {
  'memory.min': 'MemoryMin',
  'memory.low': 'MemoryLow',
  'memory.high': 'MemoryHigh',
  'memory.max': 'MemoryMax',
  'memory.swap.max': 'MemorySwapMax',
  'pids.max': 'TasksMax',
};

/** Files that systemd writes too. Values that it could not take are left to the kernel, which says why they are wrong. */
function unified(files: Readonly<Record<string, string>>, properties: BusProperty[]): void {
  const put = (name: string, value: bigint) => properties.push([name, variant('t', value)]);
  for (const [file, text] of Object.entries(files)) {
    const value = text.trim();
    const name = bytes[file];
    if (name !== undefined) {
      if (value === 'max') put(name, INFINITY);
      else if (/^\d+$/.test(value)) put(name, BigInt(value));
    } else if (file === 'cpu.weight' && /^\d+$/.test(value)) {
      put('CPUWeight', BigInt(value));
    } else if (file === 'cpu.idle' && value === '1') {
      put('CPUWeight', 0n);
    } else if (file === 'io.weight' && /^(default )?\d+$/.test(value)) {
      put('IOWeight', BigInt(value.replace('default ', '')));
    } else if (file === 'cpu.max') {
      const [quota = '', period = ''] = value.split(/\s+/);
      if (/^\d+$/.test(period)) put('CPUQuotaPeriodUSec', BigInt(period));
      if (quota === 'max') put('CPUQuotaPerSecUSec', INFINITY);
      else if (/^\d+$/.test(quota))
        put('CPUQuotaPerSecUSec', perSecond(BigInt(quota), BigInt(period === '' ? 0 : period)));
    } else if (file === 'cpuset.cpus') {
      properties.push(['AllowedCPUs', variant('ay', bitmap(value, `unified["${file}"]`))]);
    } else if (file === 'cpuset.mems') {
      properties.push(['AllowedMemoryNodes', variant('ay', bitmap(value, `unified["${file}"]`))]);
    }
  }
}

/** `0-2,5` as bytes, bit n of byte n / 8. */
function bitmap(list: string, field: string): Uint8Array {
  const bits: number[] = [];
  for (const range of list.split(',').filter((text) => text.trim() !== '')) {
    const [, first = '', last = first] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(range) ?? [];
    if (first === '' || Number(last) >= MAX_CPUS || Number(last) < Number(first)) {
      const path = `linux.resources.${field}`;
      throw new WherryError(
        'invalid-argument',
        `${path}: ${JSON.stringify(list)} is not a list such as 0-2,5`,
        {
          path,
        },
      );
    }
    for (let bit = Number(first); bit <= Number(last); bit++) bits.push(bit);
  }
  const map = new Uint8Array(Math.floor(Math.max(0, ...bits) / 8) + 1);
  for (const bit of bits) map[bit >> 3]! |= 1 << (bit & 7);
  return map;
}
