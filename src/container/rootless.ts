/**
 * An ordinary user's containers: a user namespace comes by itself, with all ids that the user may map, and what an ordinary user
 * cannot have is refused before anything is made (user_namespaces(7)).
 */
import { WherryError } from '../errors.ts';
import type { LinuxIdMapping, Mount, Spec } from '../oci/types.ts';
import type { IdHelpers } from './compile/input.ts';
import { hostId } from './compile/user-namespace.ts';
import { playedFailure } from './hooks.ts';
import { covered, type IdRange, type Subordinates, type UserIds, wholeMapping } from './subordinate-ids.ts';

/** Who runs wherryd; undefined: root, who needs nothing of this. */
export function ordinaryUser(): UserIds | undefined {
  const uid = process.geteuid?.() ?? 0;
  return uid === 0 ? undefined : { uid, gid: process.getegid?.() ?? 0 };
}

/** Root of the container is nobody else outside. */
export function rootIsUser({ linux }: Spec, { uid }: UserIds): boolean {
  return hostId(linux?.uidMappings ?? [], 0) === uid;
}

export interface UserSpec {
  spec: Spec;
  /** Who writes the maps that the kernel would not take from the user. */
  helpers: IdHelpers;
}

/** The configuration as this user can have it; the given one is not changed. */
export function specForUser(spec: Spec, user: UserIds, subordinates: Subordinates): UserSpec {
  const namespaces = spec.linux?.namespaces ?? [];
  const given = namespaces.find(({ type }) => type === 'user');
  if (given?.path !== undefined) return { spec, helpers: {} };
  const { uidMappings = [], gidMappings = [] } = spec.linux ?? {};
  if (given !== undefined && uidMappings.length + gidMappings.length > 0) {
    const helpers = {
      ...helperFor('uid', uidMappings, user.uid, subordinates),
      ...helperFor('gid', gidMappings, user.gid, subordinates),
    };
    checkUser(spec, uidMappings, gidMappings, helpers);
    return { spec, helpers };
  }
  const { uids, gids, helpers, obstacle } = subordinates;
  const ranges =
    uids.length > 0 && gids.length > 0 && helpers.uid && helpers.gid && obstacle === undefined
      ? { uids, gids, helpers }
      : { uids: [], gids: [], helpers: {} };
  const own = {
    uidMappings: wholeMapping(user.uid, ranges.uids),
    gidMappings: wholeMapping(user.gid, ranges.gids),
  };
  checkUser(spec, own.uidMappings, own.gidMappings, ranges.helpers, obstacle);
  const ownNetwork = namespaces.some(({ type, path }) => type === 'network' && path === undefined);
  return {
    spec: {
      ...spec,
      mounts: (spec.mounts ?? []).map((mount) => mountForUser(mount, ownNetwork, own)),
      linux: {
        ...spec.linux,
        namespaces: given === undefined ? [...namespaces, { type: 'user' }] : namespaces,
        ...own,
      },
    },
    helpers: ranges.helpers,
  };
}

/** Ids that are not mapped cannot own anything, and a sysfs needs a network namespace of one's own: the host's is shown. */
function mountForUser(
  mount: Mount,
  ownNetwork: boolean,
  own: { uidMappings: LinuxIdMapping[]; gidMappings: LinuxIdMapping[] },
): Mount {
  if (mount.type === 'sysfs' && !ownNetwork) {
    const options = (mount.options ?? []).filter((option) => option !== 'rw');
    return { ...mount, type: 'bind', source: '/sys', options: ['rbind', 'ro', ...options] };
  }
  if (mount.type !== 'devpts' && mount.type !== 'tmpfs') return mount;
  const options = mount.options?.filter((option) => {
    const [, kind, id] = /^([ug])id=(\d+)$/.exec(option) ?? [];
    if (kind === undefined) return true;
    return hostId(kind === 'u' ? own.uidMappings : own.gidMappings, Number(id)) !== undefined;
  });
  return options === undefined ? mount : { ...mount, options };
}

/** Without a helper the kernel takes one id, the user's own; with it those of the user's ranges, too. */
function helperFor(
  kind: 'uid' | 'gid',
  mappings: readonly LinuxIdMapping[],
  own: number,
  subordinates: Subordinates,
): IdHelpers {
  const [first, second] = mappings;
  if (first === undefined || (second === undefined && isOwn(first, own))) return {};
  const field = `linux.${kind}Mappings`;
  const program = `new${kind}map`;
  const file = `/etc/sub${kind}`;
  const ranges = kind === 'uid' ? subordinates.uids : subordinates.gids;
  const name = subordinates.name ?? `#${own}`;
  const single = `or map one id: {"containerID": 0, "hostID": ${own}, "size": 1}`;
  const refuse = (what: string, hint: string): never => {
    throw new WherryError('failed-precondition', `${field}: ${what}`, { path: field, hint });
  };
  const wrong = mappings.findIndex((mapping) => !isOwn(mapping, own) && !covered(mapping, ranges));
  if (wrong >= 0) {
    const { hostID, size } = mappings[wrong]!;
    const what =
      size === 1 ? `id ${hostID} of the host is` : `ids ${hostID}-${hostID + size - 1} of the host are`;
    throw new WherryError(
      'permission-denied',
      `${field}[${wrong}]: ${what} not yours to map: ${said(file, ranges, name)}`,
      {
        path: `${field}[${wrong}]`,
        hint: `let root add a range (usermod --add-sub${kind}s FIRST-LAST ${name}), ${single}`,
      },
    );
  }
  const helper = subordinates.helpers[kind];
  if (helper === undefined)
    refuse(
      `${program} is not installed, and without it the kernel maps one id only, your own`,
      `install it (Debian: package uidmap), ${single}`,
    );
  if (subordinates.obstacle !== undefined)
    refuse(`${program} would refuse: ${subordinates.obstacle}`, `log in as that user, ${single}`);
  return { [kind]: helper };
}

function isOwn({ hostID, size }: LinuxIdMapping, own: number): boolean {
  return hostID === own && size === 1;
}

function said(file: string, ranges: readonly IdRange[], name: string): string {
  if (ranges.length === 0) return `${file} has no range for ${name}`;
  return `${file} gives ${name} ${ranges.map(({ first, count }) => `${first}-${first + count - 1}`).join(', ')}`;
}

/** Said here, as the kernel's own answer would be "invalid argument". */
function checkUser(
  spec: Spec,
  uids: readonly LinuxIdMapping[],
  gids: readonly LinuxIdMapping[],
  helpers: IdHelpers,
  obstacle?: string,
): void {
  const { uid, gid, additionalGids = [] } = spec.process.user;
  const hint =
    uids.length === 1 && uids[0]?.size === 1
      ? `only one id is mapped: ${obstacle ?? 'for more, root gives you ranges in /etc/subuid and /etc/subgid, and installs newuidmap (Debian: package uidmap)'}`
      : 'name an id that linux.uidMappings and gidMappings have';
  const check = (path: string, mappings: readonly LinuxIdMapping[], id: number) => {
    if (mappings.length === 0 || hostId(mappings, id) !== undefined) return;
    throw new WherryError(
      'failed-precondition',
      `${path}: id ${id} of the container is mapped to no id of the host`,
      {
        path,
        hint,
      },
    );
  };
  check('process.user.uid', uids, uid);
  check('process.user.gid', gids, gid);
  additionalGids.forEach((id, index) => {
    check(`process.user.additionalGids[${index}]`, gids, id);
  });
  // The kernel's condition for a map without privileges (CVE-2014-8989).
  if (additionalGids.length > 0 && helpers.gid === undefined) {
    throw new WherryError(
      'failed-precondition',
      'process.user.additionalGids: groups cannot be set where the kernel maps only your own',
      {
        path: 'process.user.additionalGids',
        hint,
      },
    );
  }
}

/** With what a helper said when it refused. */
export function explainIdError(error: WherryError, page: Uint8Array): WherryError {
  const { path } = error.details;
  if (path !== 'linux.uidMappings' && path !== 'linux.gidMappings') return error;
  const failure = playedFailure(page);
  if (failure === undefined) return error;
  const { how, output } = failure;
  const program = path === 'linux.uidMappings' ? 'newuidmap' : 'newgidmap';
  return new WherryError('permission-denied', `${path}: ${program}: ${output === '' ? how : output}`, {
    path,
    hint: `is ${program} setuid root (or has it the capability), on a filesystem without nosuid?`,
  });
}
