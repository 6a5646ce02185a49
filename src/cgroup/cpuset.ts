/**
 * A new cpuset of v1 has no CPUs and no memory nodes, and nothing can be attached to it until it has both
 * (cpusets.rst): what its parent has is copied down. v2 inherits by itself.
 */
import { posix } from 'node:path';
import type { LinuxResources } from '../oci/types.ts';
import type { Hierarchy } from './hierarchy.ts';
import type { CgroupProbe } from './probe.ts';
import type { CgroupWrite } from './setting.ts';

interface CpusetPlace {
  hierarchy: Hierarchy;
  directory: string;
}

/** Writes for every folder of the path, parents first, that is new or was left empty by whoever made it. */
export function inheritCpuset(
  { hierarchy, directory }: CpusetPlace,
  resources: LinuxResources,
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
      // The container's own value is written with the other limits.
      if (folder === directory && resources.cpu?.[name]) continue;
      writes.push({ file: `${folder}/cpuset.${name}`, value: inherited, field: 'linux.cgroupsPath' });
    }
  }
  return writes;
}
