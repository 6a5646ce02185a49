/**
 * Which ids an ordinary user may map into a user namespace: the own one, which the kernel allows by itself, and the ranges of
 * subuid(5) and subgid(5), which newuidmap(1) and newgidmap(1) write. Read anew for each container: the files are small, and change.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram } from '../linux/program-path.ts';
import type { LinuxIdMapping } from '../oci/types.ts';
import type { IdHelpers } from './compile/input.ts';

export interface UserIds {
  uid: number;
  gid: number;
}

export interface IdRange {
  first: number;
  count: number;
}

export interface Subordinates {
  /** As /etc/passwd calls the user; undefined: it knows no such user. */
  name: string | undefined;
  uids: readonly IdRange[];
  gids: readonly IdRange[];
  helpers: IdHelpers;
  /** Why a range cannot be mapped by the helpers although both are there. */
  obstacle?: string;
}

/** Where the files and programs are; a test's own. */
export interface IdSources {
  etc: string;
  /** Folders, as in PATH; the usual ones are looked at as well. */
  path: string;
  noNewPrivileges: boolean;
}

const USUAL_PATH = '/usr/bin:/bin:/usr/local/bin';

export async function subordinatesOf(user: UserIds, sources = realSources()): Promise<Subordinates> {
  const read = (name: string) => readFile(join(sources.etc, name), 'utf8').catch(() => '');
  const [passwd, subuid, subgid, uid, gid] = await Promise.all([
    read('passwd'),
    read('subuid'),
    read('subgid'),
    findProgram('newuidmap', `${sources.path}:${USUAL_PATH}`),
    findProgram('newgidmap', `${sources.path}:${USUAL_PATH}`),
  ]);
  const entry = passwd
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields[2] === String(user.uid));
  const name = entry?.[0];
  const ranges = (text: string) => rangesOf(text, [String(user.uid), ...(name === undefined ? [] : [name])]);
  const obstacle = obstacleOf(user, entry, sources);
  return {
    name,
    uids: ranges(subuid),
    gids: ranges(subgid),
    helpers: { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) },
    ...(obstacle !== undefined && { obstacle }),
  };
}

/** The helpers look at passwd themselves, and only for the group that stands there. */
function obstacleOf(
  { uid, gid }: UserIds,
  entry: readonly string[] | undefined,
  { noNewPrivileges }: IdSources,
): string | undefined {
  if (noNewPrivileges) return 'no_new_privs is set, so newuidmap cannot gain the right to it';
  if (entry === undefined) return `/etc/passwd has no user with the id ${uid}`;
  if (entry[3] !== String(gid)) return `wherryd runs with group ${gid}, and /etc/passwd says ${entry[3]}`;
  return undefined;
}

/** `owner:first:count`, the owner by name or number. Lines that are none are left out, as the helpers do. */
export function rangesOf(text: string, owners: readonly string[]): IdRange[] {
  return text.split('\n').flatMap((line) => {
    const [owner = '', first = '', count = ''] = line.trim().split(':');
    if (!owners.includes(owner) || !/^\d+$/.test(first) || !/^[1-9]\d*$/.test(count)) return [];
    return [{ first: Number(first), count: Number(count) }];
  });
}

/** Root inside is the user, and what follows are the subordinate ids, one range after the other. */
export function wholeMapping(own: number, ranges: readonly IdRange[]): LinuxIdMapping[] {
  const mappings = [{ containerID: 0, hostID: own, size: 1 }];
  let next = 1;
  for (const { first, count } of ranges) {
    mappings.push({ containerID: next, hostID: first, size: count });
    next += count;
  }
  return mappings;
}

/** Every id of it lies in one of the ranges; the helpers ask for one range that has all of a line. */
export function covered({ hostID, size }: LinuxIdMapping, ranges: readonly IdRange[]): boolean {
  return ranges.some(({ first, count }) => hostID >= first && hostID + size <= first + count);
}

function realSources(): IdSources {
  return {
    etc: '/etc',
    path: process.env['PATH'] ?? '',
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(readFileSync('/proc/self/status', 'utf8')),
  };
}
