/** What the compiler of a create is given, for tests of single fields. */
import { planCgroup } from '../../../src/cgroup/plan.ts';
import type { CreateInput } from '../../../src/container/compile/input.ts';
import type { Spec } from '../../../src/oci/types.ts';
import { hybridHost } from '../cgroup/hosts.ts';

export function createInput(spec: Spec, more: Partial<CreateInput> = {}): CreateInput {
  return {
    token: 1n,
    id: 'x',
    spec,
    bundle: '/b',
    rootfs: '/b/rootfs',
    rootfsMounts: [],
    stateDir: '/s',
    libexec: '/libexec',
    stdio: { kind: 'inherit' },
    cgroup: planCgroup(hybridHost, { cgroupsPath: '/p', id: 'x' }),
    cgroups: hybridHost,
    seccomp: undefined,
    ...more,
  };
}
