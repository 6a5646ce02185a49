/**
 * linux.intelRdt: the group of the resctrl filesystem that a container's processes belong to (config-linux.md, "IntelRdt";
 * Documentation/filesystems/resctrl.rst). Here it is decided which; the tape makes and fills it.
 */
import { readFileSync } from 'node:fs';
import { WherryError } from '../errors.ts';
import { parseMountinfo } from '../linux/mountinfo.ts';
import type { Linux, Spec } from '../oci/types.ts';

/** Absolute paths. */
export interface ResctrlPlan {
  /** The container's class of service. */
  group: string;
  /** The group must be there already: nothing is said of what it is to be. */
  given: boolean;
  /** Lines for the file `schemata`, each with its newline; '' leaves it as it is. */
  schemata: string;
  /** A monitoring group of the container's own. */
  monitor: string | undefined;
  /** Files that a process writes "0" into. */
  tasks: string[];
  /** Folders that go at delete, in this order. */
  remove: string[];
}

type IntelRdt = NonNullable<Linux['intelRdt']>;

/** Pure. `root` is where resctrl is mounted. */
export function resctrlPlan(rdt: IntelRdt, id: string, root: string): ResctrlPlan {
  const { closID = '' } = rdt;
  const schemata = schemataOf(rdt);
  const whole = closID === '/';
  const group = whole ? root : `${root}/${closID === '' ? id : closID}`;
  const monitor = rdt.enableMonitoring === true ? `${group}/mon_groups/${id}` : undefined;
  const groups = monitor === undefined ? [group] : [group, monitor];
  return {
    group,
    given: closID !== '' && schemata === '',
    schemata,
    monitor,
    tasks: groups.map((folder) => `${folder}/tasks`),
    // A class that has a name of its own may be shared: it stays.
    remove: [...(monitor === undefined ? [] : [monitor]), ...(closID === '' ? [group] : [])],
  };
}

/** A line MB: of l3CacheSchema gives way to memBwSchema. */
function schemataOf({ l3CacheSchema = '', memBwSchema = '', schemata = [] }: IntelRdt): string {
  const cache = l3CacheSchema.split('\n').filter((line) => memBwSchema === '' || !line.startsWith('MB:'));
  return [...cache, ...memBwSchema.split('\n'), ...schemata]
    .filter((line) => line !== '')
    .map((line) => `${line}\n`)
    .join('');
}

/** @throws WherryError failed-precondition: this host has no resctrl, or not the monitoring that is asked for */
export function planResctrl(spec: Spec, id: string): ResctrlPlan | undefined {
  const rdt = spec.linux?.intelRdt;
  if (rdt === undefined) return undefined;
  const root = mountedResctrl();
  if (root === undefined) {
    throw new WherryError('failed-precondition', 'linux.intelRdt: no resctrl filesystem is mounted', {
      path: 'linux.intelRdt',
      hint: 'on a processor with Intel RDT: mount -t resctrl resctrl /sys/fs/resctrl; else remove linux.intelRdt',
    });
  }
  const events = read(`${root}/info/L3_MON/mon_features`);
  for (const [field, event] of [
    ['enableCMT', /^llc_occupancy$/m],
    ['enableMBM', /^mbm_(total|local)_bytes$/m],
    ['enableMonitoring', /^./m],
  ] as const) {
    if (rdt[field] !== true || event.test(events)) continue;
    throw new WherryError(
      'failed-precondition',
      `linux.intelRdt.${field}: this processor cannot monitor that`,
      {
        path: `linux.intelRdt.${field}`,
      },
    );
  }
  return resctrlPlan(rdt, id, root);
}

/** Where resctrl is mounted here. */
export function mountedResctrl(): string | undefined {
  return findResctrl(read('/proc/self/mountinfo'));
}

/** Where resctrl is mounted, by a mountinfo. */
export function findResctrl(mountinfo: string): string | undefined {
  return parseMountinfo(mountinfo).find(({ type }) => type === 'resctrl')?.place;
}

/** Files of kernfs and procfs never block. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
