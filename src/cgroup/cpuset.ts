/**
 * A new cpuset of v1 has no CPUs and no memory nodes, and nothing can be attached to it until it has both
 * (cpusets.rst): what its parent has is copied down. v2 inherits by itself.
 */
import { posix } from 'node:path';
import type { Hierarchy } from './hierarchy.ts';
import type { CgroupProbe } from './probe.ts';
import type { CgroupWrite } from './setting.ts';

interface CpusetPlace {
  hierarchy: Hierarchy;
  directory: string;
}

/**
 * Writes for every folder of the path, parents first, that is new or was left empty by whoever made it; the container's own value, written
 * with the other limits, comes after.
 */
export function inheritCpuset(
  { hierarchy, directory }: CpusetPlace,
  create: readonly string[],
  probe: CgroupProbe,
): CgroupWrite[] {
  const writes: CgroupWrite[] = [];
  for (const name of ['cpus', 'mems'] as const) {
    const empty: string[] = [];
    let inherited = '';
    for (let folder = directory; ; folder = posix.dirname(folder)) {
      const made = create.includes(folder);
      inherited = (made ? undefined : probe.read(`${folder}/cpuset.${name}`)) ?? '';
      if (inherited !== '' || folder === hierarchy.mountPoint || folder === '/') break;
      empty.unshift(folder);
    }
    if (inherited === '') continue;
    for (const folder of empty) {
      const file = `${folder}/cpuset.${name}`;
      writes.push({ file, value: inherited, field: 'linux.cgroupsPath', above: filesAbove(file, hierarchy) });
    }
  }
  return writes;
}

/** The same file in the folders between this one and the root of the hierarchy, the highest first. */
function filesAbove(file: string, { mountPoint }: Hierarchy): string[] {
  const files: string[] = [];
  const name = posix.basename(file);
  let folder = posix.dirname(posix.dirname(file));
  for (; folder !== mountPoint && folder !== '/'; folder = posix.dirname(folder))
    files.unshift(posix.join(folder, name));
  return files;
}
