/**
 * The systemd driver's decisions, without a bus: which unit a container is, where its cgroup lies, which properties it asks for.
 * Sources: systemd.resource-control(5), systemd.slice(5), org.freedesktop.systemd1(5), runc's docs/systemd.md.
 */
import { WherryError } from '../errors.ts';
import { type BusValue, type Variant, variant } from '../linux/sdbus.ts';
import type { LinuxResources } from '../oci/types.ts';
import { weightOfShares } from './limits-v2.ts';

const FIELD = 'linux.cgroupsPath';
const ANNOTATION = 'org.systemd.property.';
const UINT64_MAX = 0xffff_ffff_ffff_ffffn;
const DEFAULT_PERIOD_US = 100_000;

export interface SystemdUnit {
  /** `wherry-c1.scope`, or a slice. */
  name: string;
  slice: string;
  /** Path of its cgroup in the hierarchy. */
  path: string;
}

export type Property = [name: string, value: Variant];

/**
 * `slice:prefix:name`; all parts may be empty but not the colons; the whole may be.
 * Throws invalid-argument for any other form and for names that systemd has not.
 */
export function systemdUnit(cgroupsPath: string, id: string): SystemdUnit {
  const [slice = '', prefix = '', name = '', ...rest] =
    cgroupsPath === '' ? ['', 'wherry', id] : cgroupsPath.split(':');
  if (cgroupsPath !== '' && (cgroupsPath.split(':').length !== 3 || rest.length > 0 || name === '')) {
    refuse(cgroupsPath, 'is not of the form slice:prefix:name, as the systemd cgroup driver wants it');
  }
  const inSlice = slice === '' ? 'system.slice' : slice;
  const parent = slicePath(inSlice, cgroupsPath);
  const unit = name.endsWith('.slice') ? name : `${prefix === '' ? '' : `${prefix}-`}${name}.scope`;
  // systemd.unit(5): what a unit may be called.
  if (!/^[A-Za-z0-9:_.\\@-]{1,255}$/.test(unit))
    refuse(cgroupsPath, `gives the unit name ${JSON.stringify(unit)}`);
  return { name: unit, slice: inSlice, path: `${parent}/${unit}` };
}

/** systemd.slice(5): `a-b.slice` lies in `a.slice`; `-.slice` is the root. */
export function slicePath(slice: string, cgroupsPath = slice): string {
  if (slice === '-.slice') return '';
  const stem = slice.replace(/\.slice$/, '');
  const parts = stem.split('-');
  if (!slice.endsWith('.slice') || slice.includes('/') || parts.includes(''))
    refuse(cgroupsPath, `: ${slice} is not the name of a slice`);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('-')}.slice`).join('');
}

/** What StartTransientUnit is told. `pid` is the process that the unit begins with; slices have none. */
export function unitProperties(
  unit: SystemdUnit,
  id: string,
  pid: number,
  resources: LinuxResources,
  annotations: Readonly<Record<string, string>>,
): Property[] {
  const isSlice = unit.name.endsWith('.slice');
  return [
    ['Description', variant('s', `Wherry container ${id}`)],
    [isSlice ? 'Wants' : 'Slice', isSlice ? variant('as', [unit.slice]) : variant('s', unit.slice)],
    ...(isSlice
      ? []
      : ([
          ['Delegate', variant('b', true)],
          ['PIDs', variant('au', [pid])],
        ] satisfies Property[])),
    ['MemoryAccounting', variant('b', true)],
    ['CPUAccounting', variant('b', true)],
    ['IOAccounting', variant('b', true)],
    ['TasksAccounting', variant('b', true)],
    ['DefaultDependencies', variant('b', false)],
    ...resourceProperties(resources),
    ...annotationProperties(annotations),
  ];
}

/** What systemd has properties for; the container's files get the same values and all others from us. */
export function resourceProperties({ memory, cpu, pids }: LinuxResources): Property[] {
  const properties: Property[] = [];
  const put = (name: string, value: bigint) => properties.push([name, variant('t', value)]);
  const limit = (value: bigint | number) => (value < 0 ? UINT64_MAX : BigInt(value));
  const set = (value: bigint | number | undefined): value is bigint | number =>
    value !== undefined && value !== 0 && value !== 0n;
  if (set(memory?.limit)) put('MemoryMax', limit(memory.limit));
  if (set(memory?.reservation)) put('MemoryLow', limit(memory.reservation));
  if (set(memory?.swap)) {
    put('MemorySwapMax', memory.swap < 0 ? UINT64_MAX : BigInt(memory.swap) - BigInt(memory.limit ?? 0));
  }
  if (cpu?.idle === 1) put('CPUWeight', 0n);
  else if (set(cpu?.shares)) put('CPUWeight', BigInt(weightOfShares(Number(cpu.shares))));
  const period = Number(cpu?.period ?? 0) || DEFAULT_PERIOD_US;
  if (set(cpu?.period)) put('CPUQuotaPeriodUSec', BigInt(period));
  if (set(cpu?.quota)) {
    // Rounded up to 10 ms a second, as systemd itself does.
    const perSecond = (BigInt(cpu.quota) * 1_000_000n) / BigInt(period);
    put('CPUQuotaPerSecUSec', cpu.quota < 0 ? UINT64_MAX : ((perSecond + 9_999n) / 10_000n) * 10_000n);
  }
  if (cpu?.cpus) properties.push(['AllowedCPUs', variant('ay', bitmap(cpu.cpus))]);
  if (cpu?.mems) properties.push(['AllowedMemoryNodes', variant('ay', bitmap(cpu.mems))]);
  if (pids?.limit !== undefined) put('TasksMax', limit(pids.limit));
  return properties;
}

/** `0-2,5` as bytes, bit n of byte n / 8. */
function bitmap(list: string): Uint8Array {
  const bits: number[] = [];
  for (const range of list.split(',')) {
    const [first = NaN, last = first] = range.trim().split('-').map(Number);
    for (let bit = first; bit <= last; bit++) bits.push(bit);
  }
  const bytes = new Uint8Array(Math.floor(Math.max(0, ...bits) / 8) + 1);
  for (const bit of bits) bytes[bit >> 3]! |= 1 << (bit & 7);
  return bytes;
}

/** `org.systemd.property.NAME`: a value in GVariant's text format; names that end in Sec are given in seconds. */
export function annotationProperties(annotations: Readonly<Record<string, string>>): Property[] {
  return Object.entries(annotations)
    .filter(([name]) => name.startsWith(ANNOTATION))
    .map(([annotation, text]): Property => {
      const path = `annotations["${annotation}"]`;
      const name = annotation.slice(ANNOTATION.length);
      if (!/^[A-Z][A-Za-z0-9]{2,}$/.test(name)) {
        throw new WherryError(
          'invalid-argument',
          `${path}: ${JSON.stringify(name)} is not a property of a unit`,
          { path },
        );
      }
      const value = parseVariant(text, path);
      if (!name.endsWith('Sec') || name.endsWith('USec')) return [name, value];
      if (typeof value.value !== 'bigint')
        throw new WherryError('invalid-argument', `${path}: seconds are a number`, { path });
      return [`${name.slice(0, -3)}USec`, variant('t', value.value * 1_000_000n)];
    });
}

const numberTypes: Record<string, string> = { uint64: 't', int64: 'x', uint32: 'u', int32: 'i' };

/** true, false, 'text', "text", numbers with or without a type before them, and arrays of texts. */
function parseVariant(text: string, path: string): Variant {
  const trimmed = text.trim();
  if (trimmed === 'true' || trimmed === 'false') return variant('b', trimmed === 'true');
  const quoted = textOf(trimmed);
  if (quoted !== undefined) return variant('s', quoted);
  const number = /^(?:(uint64|int64|uint32|int32)\s+)?(-?\d+)$/.exec(trimmed);
  if (number !== null) return variant(numberTypes[number[1] ?? 'int32']!, BigInt(number[2]!));
  const list = /^\[(.*)\]$/s.exec(trimmed);
  const parts: BusValue[] | undefined = list?.[1]
    ?.match(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/g)
    ?.map((part) => textOf(part) ?? '');
  if (parts !== undefined) return variant('as', parts);
  throw new WherryError(
    'invalid-argument',
    `${path}: ${JSON.stringify(text)} is not a value that is understood`,
    {
      path,
      hint: "write true, 'text', uint64 5 or ['a', 'b']",
    },
  );
}

function textOf(quoted: string): string | undefined {
  const inner = /^'((?:[^'\\]|\\.)*)'$|^"((?:[^"\\]|\\.)*)"$/s.exec(quoted);
  return inner === null ? undefined : (inner[1] ?? inner[2] ?? '').replaceAll(/\\(.)/gs, '$1');
}

function refuse(path: string, rule: string): never {
  throw new WherryError('invalid-argument', `${FIELD}: ${JSON.stringify(path)} ${rule}`, { path: FIELD });
}
