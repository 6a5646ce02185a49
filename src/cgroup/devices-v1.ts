/**
 * Device rules as writes to devices.allow and devices.deny. Source: Documentation/admin-guide/cgroup-v1/devices.rst;
 * the list of devices that every container may use is runc's (specconv, AllowedDevices).
 */
import type { LinuxDeviceRule } from '../oci/types.ts';
import { FIELD, type Setting } from './setting.ts';

/** mknod of anything, then null, zero, full, random, urandom, tty, ptmx, net/tun, and all of devpts. */
const ALWAYS_ALLOWED: readonly LinuxDeviceRule[] = [
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...(
    [
      [1, 3],
      [1, 5],
      [1, 7],
      [1, 8],
      [1, 9],
      [5, 0],
      [5, 2],
      [10, 200],
      [136, undefined],
    ] as const
  ).map(([major, minor]) => ({ allow: true, type: 'c' as const, major, minor, access: 'rwm' })),
];

/** A rule without type is for everything: the kernel then looks neither at numbers nor at access. */
const isWildcard = ({ type }: LinuxDeviceRule) => type === undefined || type === 'a' || type === '';

/**
 * What the rules come to: the answer where none speaks of a device, and those after the last one for everything, which
 * makes all earlier ones void; a later one wins over an earlier one. Without one for everything, everything is denied.
 */
export function effectiveRules(rules: readonly LinuxDeviceRule[]): {
  allowed: boolean;
  rules: LinuxDeviceRule[];
} {
  const last = rules.findLastIndex(isWildcard);
  const allowed = last >= 0 && rules[last]!.allow;
  const rest = rules.slice(last + 1);
  const always = !allowed || rest.some(({ allow }) => !allow) ? ALWAYS_ALLOWED : [];
  return { allowed, rules: [...rest, ...always] };
}

/**
 * The least number of writes that end in what the rules say. The last rule for everything makes all earlier ones void;
 * where there is none, everything is denied first, as in runc.
 */
export function deviceSettings(rules: readonly LinuxDeviceRule[]): Setting[] {
  const last = rules.findLastIndex(isWildcard);
  const allowed = last >= 0 && rules[last]!.allow;
  const field = `${FIELD}.devices`;
  const settings: Setting[] = [];
  const write = (allow: boolean, value: string, path: string) => {
    const file = allow ? 'devices.allow' : 'devices.deny';
    settings.push({ controller: 'devices', file, value, field: path });
  };
  write(allowed, 'a *:* rwm', last < 0 ? field : `${field}[${last}]`);
  for (const [offset, rule] of rules.slice(last + 1).entries()) {
    write(rule.allow, ruleText(rule), `${field}[${last + 1 + offset}]`);
  }
  const known = new Set(settings.filter(({ file }) => file === 'devices.allow').map(({ value }) => value));
  const denies = settings.some(({ file }, index) => index > 0 && file === 'devices.deny');
  for (const value of ALWAYS_ALLOWED.map(ruleText)) {
    if (denies || (!allowed && !known.has(value))) write(true, value, field);
  }
  return settings;
}

function ruleText({ type, major, minor, access }: LinuxDeviceRule): string {
  const number = (value: LinuxDeviceRule['major']) =>
    value === undefined || value < 0 ? '*' : String(value);
  return `${type} ${number(major)}:${number(minor)} ${access === undefined || access === '' ? 'rwm' : access}`;
}
