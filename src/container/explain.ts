/** The tape of a bundle as text; nothing is played. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { planCgroup } from '../cgroup/plan.ts';
import { realProbe } from '../cgroup/probe.ts';
import { compileSeccomp } from '../linux/seccomp.ts';
import { disassemble } from '../tape/disassemble.ts';
import { type Asker, readSpec, rootfsOf } from './bundle-spec.ts';
import { cgroupOwner } from './cgroup-owner.ts';
import { compileCreate } from './compile/create.ts';
import { LIBEXEC } from './creation.ts';
import { withHome } from './home.ts';
import { planNetDevices } from './net-devices.ts';
import { planResctrl } from './resctrl.ts';
import { rootIsUser } from './rootless.ts';

export interface ExplainContext extends Asker {
  cgroups: CgroupHost;
  /** Folder of cgroups, from the hierarchy's root, for a container that names none. */
  cgroupParent: string;
  stateDir: string;
}

export async function explainBundle(
  bundle: string,
  id: string,
  { cgroups, cgroupParent, stateDir, ...asker }: ExplainContext,
): Promise<string> {
  const { user } = asker;
  const { spec: given, helpers } = await readSpec({ bundle }, asker);
  const spec = await withHome(given, rootfsOf(given, bundle), []);
  const cgroupsPath = spec.linux?.cgroupsPath ?? '';
  const own = cgroupsPath === '' ? `/${id}` : cgroupsPath;
  // The bundle's container may run just now: its cgroup is taken as not made yet.
  const probe = { ...realProbe, exists: (path: string) => !path.endsWith(own) && realProbe.exists(path) };
  const wanted = { cgroupsPath, defaultParent: cgroupParent, id, resources: spec.linux?.resources };
  const cgroup = planCgroup(cgroups, { ...wanted, owner: cgroupOwner(spec) }, probe);
  const seccomp = spec.linux?.seccomp;
  const tape = compileCreate({
    token: 0n,
    id,
    spec,
    bundle,
    rootfs: rootfsOf(spec, bundle),
    rootfsMounts: [],
    stateDir,
    libexec: LIBEXEC,
    stdio: { kind: 'inherit' },
    cgroup,
    cgroups,
    seccomp: seccomp === undefined ? undefined : await compileSeccomp(seccomp),
    unprivileged: user !== undefined,
    netDevices: await planNetDevices(spec),
    resctrl: planResctrl(spec, id),
    rootIsUser: user !== undefined && rootIsUser(spec, user),
    idHelpers: helpers,
  });
  return disassemble(tape);
}
