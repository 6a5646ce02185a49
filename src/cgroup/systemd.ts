/**
 * The systemd driver's decisions, without a bus: which unit a container is, where its cgroup lies, which properties it asks for.
 * Sources: systemd.resource-control(5), systemd.slice(5), org.freedesktop.systemd1(5), runc's docs/systemd.md.
 */
import { WherryError } from '../errors.ts';
import { type BusProperty, variant } from '../linux/sdbus.ts';
import type { LinuxResources } from '../oci/types.ts';
import type { CgroupMode } from './hierarchy.ts';
import { annotationProperties } from './systemd-annotations.ts';
import { deviceProperties } from './systemd-devices.ts';
import { resourceProperties } from './systemd-resources.ts';

/** Until a shutdown goes on without it. */
const KEEL_STOP_US = 5_000_000;
const FIELD = 'linux.cgroupsPath';

export interface SystemdUnit {
  /** `wherry-c1.scope`, or a slice. */
  name: string;
  slice: string;
  /** Path of its cgroup in the hierarchy. */
  path: string;
}

/** Whose units they are. */
export interface UnitManager {
  /** Where its units begin in the hierarchy; '' for the system's. */
  controlGroup: string;
  defaultSlice: string;
}

export const system: UnitManager = { controlGroup: '', defaultSlice: 'system.slice' };

/**
 * `slice:prefix:name`; all parts may be empty but not the colons; the whole may be.
 * Throws invalid-argument for any other form and for names that systemd has not.
 */
export function systemdUnit(cgroupsPath: string, id: string, manager: UnitManager = system): SystemdUnit {
  const [slice = '', prefix = '', name = '', ...rest] =
    cgroupsPath === '' ? ['', 'wherry', id] : cgroupsPath.split(':');
  if (cgroupsPath !== '' && (cgroupsPath.split(':').length !== 3 || rest.length > 0 || name === '')) {
    refuse(cgroupsPath, 'is not of the form slice:prefix:name, as the systemd cgroup driver wants it');
  }
  const inSlice = slice === '' ? manager.defaultSlice : slice;
  const parent = slicePath(inSlice, cgroupsPath);
  const unit = isSliceName(name) ? name : `${prefix === '' ? '' : `${prefix}-`}${name}.scope`;
  // systemd.unit(5): what a unit may be called.
  if (!/^[A-Za-z0-9:_.\\@-]{1,255}$/.test(unit))
    refuse(cgroupsPath, `gives the unit name ${JSON.stringify(unit)}`);
  return { name: unit, slice: inSlice, path: `${manager.controlGroup}${parent}/${unit}` };
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

export interface UnitRequest {
  id: string;
  /** The process that a scope begins with; slices have none. */
  pid: number;
  resources: LinuxResources;
  annotations: Readonly<Record<string, string>>;
  /** Of the host: v1's files are systemd's to write as well. */
  mode: CgroupMode;
}

/** What StartTransientUnit is told. Annotations come last, so they win. */
export function unitProperties(unit: SystemdUnit, request: UnitRequest): BusProperty[] {
  const { id, pid, resources, annotations, mode } = request;
  const isSlice = isSliceName(unit.name);
  return [
    ['Description', variant('s', `Wherry container ${id}`)],
    [isSlice ? 'Wants' : 'Slice', isSlice ? variant('as', [unit.slice]) : variant('s', unit.slice)],
    ...(isSlice
      ? []
      : ([
          ['Delegate', variant('b', true)],
          ['PIDs', variant('au', [pid])],
        ] satisfies BusProperty[])),
    ['MemoryAccounting', variant('b', true)],
    ['CPUAccounting', variant('b', true)],
    [mode === 'v2' ? 'IOAccounting' : 'BlockIOAccounting', variant('b', true)],
    ['TasksAccounting', variant('b', true)],
    ['DefaultDependencies', variant('b', false)],
    ...deviceProperties(resources.devices ?? [], mode),
    ...resourceProperties(resources, mode),
    ...annotationProperties(annotations),
  ];
}

/** Of a scope for keel. It refuses to end while containers run, and must not be killed for that (docs/internals.md, "wherryd → keel"). */
export function keelProperties(pids: readonly number[], slice: string): BusProperty[] {
  return [
    ['Description', variant('s', 'Wherry: keel and wherryd')],
    ['Slice', variant('s', slice)],
    ['PIDs', variant('au', pids)],
    ['CollectMode', variant('s', 'inactive-or-failed')],
    ['SendSIGKILL', variant('b', false)],
    ['TimeoutStopUSec', variant('t', KEEL_STOP_US)],
  ];
}

export function isSliceName(unit: string): boolean {
  return unit.endsWith('.slice');
}

function refuse(path: string, rule: string): never {
  throw new WherryError('invalid-argument', `${FIELD}: ${JSON.stringify(path)} ${rule}`, { path: FIELD });
}
