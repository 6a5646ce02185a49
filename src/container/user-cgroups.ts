/**
 * Cgroups of an ordinary user (cgroups(7), "Cgroups delegation"). They belong to root unless somebody gave the user a part: on v2, where the
 * folder above wherryd's own cgroup is the user's, containers get theirs in it.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import {
  type Absence,
  absenceOf,
  below,
  type CgroupHost,
  noCgroups,
  parseProcCgroup,
  UNWANTED,
} from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import type { ContainerRecord } from './record.ts';
import type { CreateRequest } from './types.ts';

const V1: Absence = {
  why: 'an ordinary user has no cgroups where the host has cgroup v1',
  hint: 'run as root, boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)',
};
const NOT_DELEGATED: Absence = {
  why: "wherryd's cgroup is in no part of the hierarchy that is delegated to this user",
  hint: 'start wherryd in one (systemd-run --user --scope -p Delegate=yes -- wherry daemon start)',
};
/** Of containers that name no cgroup: beside wherryd's own. */
export const USER_PARENT = 'wherry';

/** Those that a user's containers may have: beside wherryd, or in the part of the user's own systemd, where callers mostly are. */
export function cgroupsOfUser(host: CgroupHost, uid: number): CgroupHost {
  if (host.mode === 'none') return noCgroups();
  if (host.mode !== 'v2') return noCgroups(V1);
  return [host, besideManager(host, uid)].find(isDelegated) ?? noCgroups(NOT_DELEGATED);
}

/** As if wherryd were where the user's manager is (systemd.special(7), user@.service), from wherever it was started. */
function besideManager(host: CgroupHost, uid: number): CgroupHost {
  if (host.unified === undefined) return host;
  const own = `/user.slice/user-${uid}.slice/user@${uid}.service/init.scope`;
  return { ...host, unified: { ...host.unified, own: below(host.unified.root, own) } };
}

const ELSEWHERE: Absence = {
  why: "the caller's cgroup is in no part of the hierarchy that is delegated to this user",
  hint: 'call from a shell that is in the same part as wherryd (systemd-run --user --scope)',
};

const NOT_MADE: Absence = {
  why: 'it was made with --cgroup-manager disabled',
  hint: 'make it without that flag',
};

/** Who clones the init, the caller or keel beside us, may put it only into cgroups of a part that it is in itself. */
export function cgroupsOfCaller(host: CgroupHost, caller: number = process.pid): CgroupHost {
  const { unified } = host;
  if (unified === undefined) return host;
  const part = posix.dirname(unified.own);
  return part === '/' || `${cgroupOf(caller)}/`.startsWith(`${part}/`) ? host : noCgroups(ELSEWHERE);
}

/** Those that a container may be planned in; `ofUser`: wherryd is an ordinary user's. */
export function cgroupsOfRequest(
  host: CgroupHost,
  { noCgroup, caller }: Pick<CreateRequest, 'noCgroup' | 'caller'>,
  ofUser: boolean,
): CgroupHost {
  if (noCgroup) return noCgroups(UNWANTED);
  return ofUser ? cgroupsOfCaller(host, caller?.pid) : host;
}

/** Path in the unified hierarchy; '' of a process that is gone. */
function cgroupOf(pid: number): string {
  try {
    return parseProcCgroup(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))[''] ?? '';
  } catch {
    return '';
  }
}

/** New cgroups are made beside our own. */
function isDelegated({ unified }: CgroupHost): boolean {
  if (unified === undefined) return false;
  const parent = `${unified.mountPoint}${posix.dirname(unified.own)}`;
  try {
    accessSync(parent, constants.W_OK);
    accessSync(`${parent}/cgroup.procs`, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export function hasCgroup({ cgroup }: Pick<ContainerRecord, 'cgroup'>): boolean {
  return Object.keys(cgroup?.paths ?? {}).length > 0;
}

/** Says for what a cgroup would be needed, and why there is none. */
export function assertCgroup(record: ContainerRecord, host: CgroupHost, act: string): void {
  if (hasCgroup(record)) return;
  const { why, hint } = reasonOf(record, host);
  throw new WherryError('failed-precondition', `cannot ${act}: the container has no cgroup: ${why}`, {
    hint,
  });
}

function reasonOf({ cgroup }: ContainerRecord, host: CgroupHost): Absence {
  if (cgroup?.unwanted) return NOT_MADE;
  return host.mode === 'none' ? absenceOf(host) : ELSEWHERE;
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
