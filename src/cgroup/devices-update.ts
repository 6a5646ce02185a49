/**
 * Device rules of a running container changed on cgroup v1. What stays allowed is never denied for a moment: what is missing
 * is allowed first, then what is too much is denied. Source: Documentation/admin-guide/cgroup-v1/devices.rst.
 */
import type { LinuxDeviceRule } from '../oci/types.ts';
import { deviceSettings, effectiveRules } from './devices-v1.ts';
import { FIELD, type Setting } from './setting.ts';

export interface DeviceChange {
  settings: Setting[];
  /** What takes the change back, in the order in which it is to be written. */
  back: Setting[];
}

/** Rights by device, as devices.list has them: `c 1:3` to `rwm`. */
type Rights = Map<string, Set<string>>;

/** `list` is the text of devices.list now. */
export function deviceChange(list: string, rules: readonly LinuxDeviceRule[]): DeviceChange {
  const { allowed, rules: wanted } = effectiveRules(rules);
  const now = rightsOf(list);
  if (allowed || now === undefined) {
    // From or to "everything but": the kernel starts anew, with a moment in between that it leaves no way around.
    const back = now === undefined ? [setting('devices.allow', 'a *:* rwm')] : restored(now);
    return { settings: deviceSettings(rules), back };
  }
  const target: Rights = new Map();
  for (const { allow, type, major, minor, access } of wanted) {
    const rights = rightsFor(target, `${type} ${numberText(major)}:${numberText(minor)}`);
    for (const right of access ? access : 'rwm') {
      if (allow) rights.add(right);
      else rights.delete(right);
    }
  }
  const more = differences(target, now);
  const less = differences(now, target);
  return {
    settings: [
      ...more.map((value) => setting('devices.allow', value)),
      ...less.map((value) => setting('devices.deny', value)),
    ],
    back: [
      ...less.map((value) => setting('devices.allow', value)),
      ...more.map((value) => setting('devices.deny', value)),
    ],
  };
}

/** undefined: everything but what was denied, which the kernel does not list. */
function rightsOf(list: string): Rights | undefined {
  const rights: Rights = new Map();
  for (const line of list.split('\n')) {
    const parts = /^([abcu]) (\S+) ([rwm]+)$/.exec(line);
    if (parts === null) continue;
    if (parts[1] === 'a') return undefined;
    for (const right of parts[3]!) rightsFor(rights, `${parts[1]} ${parts[2]}`).add(right);
  }
  return rights;
}

function rightsFor(all: Rights, device: string): Set<string> {
  let rights = all.get(device);
  if (rights === undefined) {
    rights = new Set();
    all.set(device, rights);
  }
  return rights;
}

/** What `some` has and `others` have not, as lines for the kernel. */
function differences(some: Rights, others: Rights): string[] {
  return [...some].flatMap(([device, rights]) => {
    const missing = [...rights].filter((right) => others.get(device)?.has(right) !== true);
    return missing.length === 0 ? [] : [`${device} ${missing.join('')}`];
  });
}

function restored(now: Rights): Setting[] {
  const lines = [...now].map(([device, rights]) =>
    setting('devices.allow', `${device} ${[...rights].join('')}`),
  );
  return [setting('devices.deny', 'a *:* rwm'), ...lines];
}

function setting(file: string, value: string): Setting {
  return { controller: 'devices', file, value, field: `${FIELD}.devices` };
}

function numberText(value: LinuxDeviceRule['major']): string {
  return value === undefined || value < 0 ? '*' : String(value);
}
