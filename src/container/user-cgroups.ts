/** Cgroups belong to root unless somebody gave a part of them to a user (cgroups(7), "Cgroups delegation"). */
import { type Absence, absenceOf, type CgroupHost } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import type { ContainerRecord } from './record.ts';

const V1: Absence = {
  why: 'an ordinary user has no cgroups where the host has cgroup v1',
  hint: 'run as root, boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)',
};

const V2: Absence = {
  why: 'cgroups that are delegated to an ordinary user are not used yet',
  hint: 'run as root',
};

/** None are made, and what needs one is refused. */
export function cgroupsOfUser(host: CgroupHost): CgroupHost {
  const none: CgroupHost = { mode: 'none', hierarchies: [], unified: undefined, unifiedControllers: [] };
  return host.mode === 'none' ? none : { ...none, absence: host.mode === 'v2' ? V2 : V1 };
}

export function hasCgroup({ cgroup }: Pick<ContainerRecord, 'cgroup'>): boolean {
  return Object.keys(cgroup?.paths ?? {}).length > 0;
}

/** Says for what a cgroup would be needed, and why there is none. */
export function assertCgroup(record: ContainerRecord, host: CgroupHost, act: string): void {
  if (hasCgroup(record)) return;
  const { why, hint } = absenceOf(host);
  throw new WherryError('failed-precondition', `cannot ${act}: the container has no cgroup: ${why}`, {
    hint,
  });
}

/** The systemd driver has nothing to drive. */
export function assertHierarchy(host: CgroupHost): void {
  if (host.mode !== 'none' || host.absence === undefined) return;
  const { why, hint } = host.absence;
  throw new WherryError('failed-precondition', `--systemd-cgroup: ${why}`, {
    path: 'linux.cgroupsPath',
    hint: `${hint}, or leave the option out`,
  });
}
