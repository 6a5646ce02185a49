/**
 * An ordinary user's containers: a user namespace comes by itself, with the user as its only id, and what an ordinary user
 * cannot have is refused before anything is made (user_namespaces(7)).
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import type { LinuxIdMapping, Mount, Spec } from '../oci/types.ts';

export interface UserIds {
  uid: number;
  gid: number;
}

/** Who runs wherryd; undefined: root, who needs nothing of this. */
export function ordinaryUser(): UserIds | undefined {
  const uid = process.geteuid?.() ?? 0;
  return uid === 0 ? undefined : { uid, gid: process.getegid?.() ?? 0 };
}

/** Cgroups belong to root unless somebody gave us a part of them: none are made, and limits are told as without effect. */
export function withoutCgroups(): CgroupHost {
  return { mode: 'none', hierarchies: [], unified: undefined, unifiedControllers: [] };
}

/** The configuration as this user can have it; the given one is not changed. */
export function specForUser(spec: Spec, user: UserIds): Spec {
  const namespaces = spec.linux?.namespaces ?? [];
  const given = namespaces.find(({ type }) => type === 'user');
  if (given?.path !== undefined) return spec;
  if (given !== undefined) {
    checkMapping('uidMappings', spec.linux?.uidMappings ?? [], user.uid);
    checkMapping('gidMappings', spec.linux?.gidMappings ?? [], user.gid);
    return spec;
  }
  const only = (hostID: number): LinuxIdMapping[] => [{ containerID: 0, hostID, size: 1 }];
  const ownNetwork = namespaces.some(({ type, path }) => type === 'network' && path === undefined);
  return {
    ...spec,
    mounts: (spec.mounts ?? []).map((mount) => mountForUser(mount, ownNetwork)),
    linux: {
      ...spec.linux,
      namespaces: [...namespaces, { type: 'user' }],
      uidMappings: only(user.uid),
      gidMappings: only(user.gid),
    },
  };
}

/** Ids that are not mapped cannot own anything, and a sysfs needs a network namespace of one's own: the host's is shown. */
function mountForUser(mount: Mount, ownNetwork: boolean): Mount {
  if (mount.type === 'sysfs' && !ownNetwork) {
    const options = (mount.options ?? []).filter((option) => option !== 'rw');
    return { ...mount, type: 'bind', source: '/sys', options: ['rbind', 'ro', ...options] };
  }
  if (mount.type !== 'devpts' && mount.type !== 'tmpfs') return mount;
  const options = mount.options?.filter((option) => !/^[ug]id=[1-9]/.test(option));
  return options === undefined ? mount : { ...mount, options };
}

/** Without a helper that is allowed more, the kernel takes one id: the user's own. */
function checkMapping(
  field: 'uidMappings' | 'gidMappings',
  mappings: readonly LinuxIdMapping[],
  own: number,
): void {
  const [first, second] = mappings;
  if (first === undefined || (second === undefined && first.hostID === own && first.size === 1)) return;
  throw new WherryError(
    'unimplemented',
    `linux.${field}: ranges of subordinate ids are not supported yet for an ordinary user`,
    {
      path: `linux.${field}`,
      hint: `map one id: {"containerID": 0, "hostID": ${own}, "size": 1}, or run as root`,
    },
  );
}
