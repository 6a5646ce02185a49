/**
 * Whose a container's cgroup is (runtime-spec config-linux.md, "Cgroup ownership"): on cgroup v2, with a user namespace and a
 * cgroup namespace of its own and a cgroup mount that it may write to, its own user's, so that it can make cgroups inside.
 */
import type { Spec } from '../oci/types.ts';
import { hasNewNamespace } from './compile/namespaces.ts';
import { hostId } from './compile/user-namespace.ts';

/** The user's id on the host; undefined: the cgroup stays root's. */
export function cgroupOwner(spec: Spec): number | undefined {
  if (!hasNewNamespace(spec, 'user') || !hasNewNamespace(spec, 'cgroup')) return undefined;
  const writable = (spec.mounts ?? []).some(
    ({ type, destination, options }) =>
      (type === 'cgroup' || type === 'cgroup2') &&
      destination === '/sys/fs/cgroup' &&
      options?.includes('ro') !== true,
  );
  return writable ? hostId(spec.linux?.uidMappings ?? [], spec.process?.user?.uid ?? 0) : undefined;
}
