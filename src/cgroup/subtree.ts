/** v2: a cgroup has only the controllers that all of its ancestors hand down (cgroup-v2.rst, "Enabling and Disabling"). */
import { posix } from 'node:path';
import { WherryError } from '../errors.ts';
import type { CgroupHost, Hierarchy } from './hierarchy.ts';
import type { CgroupProbe } from './probe.ts';
import type { CgroupWrite, Setting } from './setting.ts';

/** Enabled wherever they can be, so that stats have something to read and limits can be set later. */
const USEFUL = ['cpu', 'cpuset', 'io', 'memory', 'pids', 'hugetlb', 'rdma'];
/** Left out rather than fatal: a parent with processes, realtime tasks, threaded domains, delegation. */
const TOLERATED = ['EBUSY', 'EINVAL', 'EOPNOTSUPP', 'ENOENT', 'EPERM', 'EACCES'];

/**
 * Writes to cgroup.subtree_control from the root down to the parent of `place`, where something is missing. What a limit
 * needs must succeed; the rest may fail.
 */
export function enableControllers(
  host: CgroupHost,
  place: { hierarchy: Hierarchy; directory: string },
  settings: readonly Setting[],
  create: readonly string[],
  probe: CgroupProbe,
): CgroupWrite[] {
  const needed = new Map<string, string>();
  for (const { controller, field } of settings) {
    // Files of the core (cgroup.*) and pressure files need no controller.
    if (controller === 'cgroup' || needed.has(controller)) continue;
    if (!host.unifiedControllers.includes(controller)) {
      throw new WherryError(
        'failed-precondition',
        `${field}: this host has no ${controller} cgroup controller`,
        {
          path: field,
          hint: `enable ${controller} in the parent's cgroup.subtree_control or remove the limit`,
        },
      );
    }
    needed.set(controller, field);
  }
  const extra = USEFUL.filter((name) => host.unifiedControllers.includes(name) && !needed.has(name));

  const ancestors: string[] = [];
  for (let folder = place.directory; folder !== place.hierarchy.mountPoint && folder !== '/'; ) {
    folder = posix.dirname(folder);
    ancestors.unshift(folder);
  }
  return ancestors.flatMap((folder) => {
    const file = `${folder}/cgroup.subtree_control`;
    const on = create.includes(folder) ? [] : (probe.read(file) ?? '').split(' ');
    const plus = (names: string[]) =>
      names
        .filter((name) => !on.includes(name))
        .map((name) => `+${name}`)
        .join(' ');
    const must = plus([...needed.keys()]);
    const may = plus(extra);
    const field = [...needed.values()][0] ?? 'linux.cgroupsPath';
    return [
      ...(must === '' ? [] : [{ file, value: must, field }]),
      ...(may === '' ? [] : [{ file, value: may, field: 'linux.cgroupsPath', mayFail: TOLERATED }]),
    ];
  });
}
