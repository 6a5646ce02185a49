/** Which cgroup a container gets: linux.cgroupsPath as a path in every hierarchy. */
import { posix } from 'node:path';
import { WherryError } from '../errors.ts';

const FIELD = 'linux.cgroupsPath';
/** Where containers go that name no cgroup. */
export const DEFAULT_PARENT = '/wherry';

export interface CgroupPathRequest {
  /** linux.cgroupsPath; '' when there is none. */
  cgroupsPath: string;
  id: string;
  /** Absolute folder for containers that name no cgroup; DEFAULT_PARENT. */
  defaultParent?: string;
}

/** Given a process' own cgroup in a hierarchy, the container's in it. */
export type CgroupPath = (own: string) => string;

/** invalid-argument for paths that leave the hierarchy or name its root. */
export function resolveCgroupsPath(request: CgroupPathRequest): CgroupPath {
  const { cgroupsPath, id, defaultParent = DEFAULT_PARENT } = request;
  const wanted = cgroupsPath === '' ? `${defaultParent}/${id}` : cgroupsPath;
  // Cleaning "a/../b" would be a guess at what was meant; a path that climbs is an attempt or a mistake.
  if (wanted.split('/').includes('..')) refuse(wanted, 'must not contain ".."');
  if (/[\0\n]/.test(wanted)) refuse(wanted, 'must not contain line breaks or NUL');
  const clean = posix.join('/', wanted).replace(/\/+$/, '');
  if (clean === '') refuse(wanted, 'must name a cgroup of its own, not the root');
  return posix.isAbsolute(wanted) ? () => clean : (own) => posix.join(own, clean);
}

/**
 * `slice:prefix:name`, where the slice may be left out. Only colons do not make it: a path may contain them. Without the systemd driver it
 * is a path like any other, as with runc and crun.
 */
export function isSystemdForm(path: string): boolean {
  const parts = path.split(':');
  return parts.length === 3 && !path.includes('/') && (parts[0] === '' || parts[0]!.endsWith('.slice'));
}

function refuse(path: string, rule: string): never {
  throw new WherryError('invalid-argument', `${FIELD}: ${JSON.stringify(path)} ${rule}`, { path: FIELD });
}
