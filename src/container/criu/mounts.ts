/** Which mounts of a container come from outside: criu leaves their content alone, and a restore says where it is now. */
import { readFileSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import { type MountInfo, parseMountinfo } from '../../linux/mountinfo.ts';
import { isBindMount } from '../../oci/mounts.ts';
import type { Spec } from '../../oci/types.ts';
import { components } from '../compile/program.ts';
import type { Named } from './message.ts';

export function mountPoints(pid: number): MountInfo[] {
  return parseMountinfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
}

/** Cgroup v1 without a cgroup namespace: each hierarchy is a bind mount. */
function cgroupBinds(
  spec: Spec,
  cgroups: CgroupHost,
  destination: string,
  paths: Readonly<Record<string, string>>,
) {
  const own = (spec.linux?.namespaces ?? []).some(({ type }) => type === 'cgroup');
  if (cgroups.mode === 'v2' || own) return [];
  return cgroups.hierarchies.map(({ folder, controllers, mountPoint }) => ({
    destination: `${destination}/${folder}`,
    source: paths[controllers[0] ?? ''] ?? mountPoint,
  }));
}

export interface ExternalInput {
  spec: Spec;
  bundle: string;
  cgroups: CgroupHost;
  /** Folders of its cgroups by controller. */
  cgroupPaths: Readonly<Record<string, string>>;
  /** Where the root filesystem can be looked at. */
  root: string;
}

/** What comes from outside: place in the container → source on the host. */
async function externalMounts(input: ExternalInput): Promise<Map<string, string>> {
  const { spec, bundle, cgroups, cgroupPaths } = input;
  const all = new Map<string, string>();
  const add = async (destination: string, source: string) =>
    all.set(await resolveInRoot(input.root, destination), source);
  for (const { destination, type, source = '', options = [] } of spec.mounts ?? []) {
    if (isBindMount({ type, options }))
      await add(destination, source.startsWith('/') ? source : `${bundle}/${source}`);
    if (type === 'cgroup') {
      for (const one of cgroupBinds(spec, cgroups, destination, cgroupPaths))
        await add(one.destination, one.source);
    }
  }
  return all;
}

const STANDARD_DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'].map((name) => `/dev/${name}`);

function devices(spec: Spec): string[] {
  return [...STANDARD_DEVICES, ...(spec.linux?.devices ?? []).map(({ path }) => path)];
}

/** For a dump: the place is the name. Masked files have one name together, as in runc's images. */
export async function dumpedMounts(
  input: ExternalInput,
  points: readonly MountInfo[],
): Promise<Named<string>[]> {
  const byPlace = new Map(points.map((point) => [point.place, point]));
  const names = [...(await externalMounts(input)).keys()].map((place) => ({ key: place, value: place }));
  for (const path of devices(input.spec)) {
    if (byPlace.has(path)) names.push({ key: path, value: path });
  }
  for (const path of input.spec.linux?.maskedPaths ?? []) {
    const point = byPlace.get(`/${components(path).join('/')}`);
    if (point?.root.endsWith('/null')) names.push({ key: point.place, value: '/dev/null' });
  }
  return names;
}

/** For a restore; a name that the image does not have means nothing. */
export async function restoredMounts(input: ExternalInput): Promise<Named<string>[]> {
  const names = [...(await externalMounts(input))].map(([key, value]) => ({ key, value }));
  const known = new Set(names.map(({ key }) => key));
  for (const path of new Set(devices(input.spec))) {
    if (!known.has(path)) names.push({ key: path, value: path });
  }
  return names;
}

const LINKS = 40;

/** A path without symlinks, each of which is taken as the container sees it. What does not exist stays as it is written. */
export async function resolveInRoot(root: string, path: string): Promise<string> {
  const left = components(path);
  let done: string[] = [];
  for (let links = 0; left.length > 0; ) {
    const name = left.shift()!;
    const here = [...done, name];
    let target: string | undefined;
    try {
      target = links < LINKS ? await readlink(`${root}/${here.join('/')}`) : undefined;
    } catch {
      // No symlink.
    }
    if (target === undefined) {
      done = here;
      continue;
    }
    links++;
    const absolute = target.startsWith('/');
    left.unshift(...components(`${absolute ? '' : done.join('/')}/${target}`));
    done = [];
  }
  return `/${done.join('/')}`;
}
