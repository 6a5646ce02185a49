/**
 * Device rules as systemd's DevicePolicy and DeviceAllow: the same as our own (device-program.ts, devices-v1.ts), which stay in force
 * beside them. systemd writes its own whenever it reads its files again; where the two differ a container would lose devices then.
 * Source: systemd.resource-control(5), "DeviceAllow=".
 */
import { WherryError } from '../errors.ts';
import { type BusProperty, variant } from '../linux/sdbus.ts';
import type { LinuxDeviceRule } from '../oci/types.ts';
import { effectiveRules } from './devices-v1.ts';
import type { CgroupMode } from './hierarchy.ts';

const FIELD = 'linux.resources.devices';

/** What is allowed of one kind of device. */
export interface DeviceEntry {
  type: 'b' | 'c';
  /** -1: every one. */
  major: number;
  minor: number;
  /** Of r, w, m. */
  access: Set<string>;
}

/**
 * `strict`: nothing but the list. `auto` with an empty list: everything, so that our own rules alone decide. On cgroup v2 the two
 * programs are asked one after the other, so it is enough that systemd denies nothing that we allow: what its list has no words for (an
 * exception, `*:5`) is allowed in it. On v1 there is one list, so that there such rules are refused: failed-precondition.
 */
export function deviceProperties(rules: readonly LinuxDeviceRule[], mode: CgroupMode): BusProperty[] {
  const list = allowedDevices(rules, mode);
  const allow = (list ?? []).map(({ type, major, minor, access }) => [
    specifier(type, major, minor),
    [...access].sort().join(''),
  ]);
  // The list is emptied before it is filled: systemd adds to it.
  return [
    ['DevicePolicy', variant('s', list === undefined ? 'auto' : 'strict')],
    ['DeviceAllow', variant('a(ss)', [])],
    ...(allow.length > 0 ? [['DeviceAllow', variant('a(ss)', allow)] satisfies BusProperty] : []),
  ];
}

/** undefined: every device. Entries that overlap have each other's rights, as systemd wants all of a request in one entry. */
export function allowedDevices(
  rules: readonly LinuxDeviceRule[],
  mode: CgroupMode,
): DeviceEntry[] | undefined {
  const exact = mode !== 'v2';
  const { allowed, rules: list } = effectiveRules(rules);
  if (allowed) {
    if (exact && list.some(({ allow }) => !allow))
      refuse('everything but single devices is allowed', 'deny everything first and allow what is needed');
    return undefined;
  }
  const entries: DeviceEntry[] = [];
  for (const { allow, type, major, minor, access } of list) {
    const number = (value: typeof major) => (value === undefined || value < 0 ? -1 : Number(value));
    const rule = { type: type === 'b' ? 'b' : 'c', major: number(major), minor: number(minor) } as const;
    const rights = access === undefined || access === '' ? 'rwm' : access;
    if (allow) {
      if (rule.major < 0 && rule.minor >= 0) {
        if (exact) refuse('every major number with one minor number', 'name the major numbers');
        return undefined;
      }
      const entry = entries.find((known) => isSame(known, rule)) ?? { ...rule, access: new Set() };
      if (entry.access.size === 0) entries.push(entry);
      for (const right of rights) entry.access.add(right);
    } else {
      for (const entry of entries.filter((known) => (exact ? isSame(known, rule) : covers(rule, known))))
        for (const right of rights) entry.access.delete(right);
    }
  }
  for (const entry of entries) {
    for (const wider of entries.filter((other) => entry.access.size > 0 && covers(other, entry)))
      for (const right of wider.access) entry.access.add(right);
  }
  return entries.filter(({ access }) => access.size > 0);
}

type Device = Pick<DeviceEntry, 'type' | 'major' | 'minor'>;

const isSame = (one: Device, other: Device) =>
  one.type === other.type && one.major === other.major && one.minor === other.minor;

const covers = (wide: Device, narrow: Device) =>
  wide.type === narrow.type &&
  (wide.major < 0 || wide.major === narrow.major) &&
  (wide.minor < 0 || wide.minor === narrow.minor);

/** systemd 240 and later read numbers from the path and take a major number for the name of a group. */
function specifier(type: 'b' | 'c', major: number, minor: number): string {
  const group = type === 'b' ? 'block' : 'char';
  if (minor >= 0) return `/dev/${group}/${major}:${minor}`;
  return `${group}-${major < 0 ? '*' : major}`;
}

function refuse(what: string, hint: string): never {
  throw new WherryError(
    'failed-precondition',
    `${FIELD}: ${what}, which systemd cannot say on cgroup v1 and would undo`,
    { path: FIELD, hint: `${hint}, or use the cgroupfs driver` },
  );
}
