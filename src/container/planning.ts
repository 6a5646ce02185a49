/** What a create decides before anything is done: its specification, cgroup, systemd unit and seccomp filter. Nothing of it stays if it fails. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { type CgroupPlan, planCgroup } from '../cgroup/plan.ts';
import { isSliceName, type SystemdUnit } from '../cgroup/systemd.ts';
import { compileSeccomp } from '../linux/seccomp.ts';
import type { Spec } from '../oci/types.ts';
import { type Asker, readSpec, rootfsOf } from './bundle-spec.ts';
import { cgroupOwner } from './cgroup-owner.ts';
import { commandText } from './command-text.ts';
import { canEndAlone } from './ends-alone.ts';
import { folderName } from './folder-name.ts';
import { withHome } from './home.ts';
import { laterHooks } from './hooks.ts';
import { logFields } from './key.ts';
import type { ContainerRecord } from './record.ts';
import type { Scopes } from './scopes.ts';
import { scopeFolder } from './store.ts';
import type { UserIds } from './subordinate-ids.ts';
import type { ContainerKey, CreateRequest, Logger } from './types.ts';
import { assertHierarchy, cgroupsOfRequest } from './user-cgroups.ts';

export interface PlanningDependencies {
  cgroups: CgroupHost;
  /** Folder, from the hierarchy's root, for containers that name no cgroup. */
  cgroupParent: string;
  /** Not root: whose containers these are. */
  user: UserIds | undefined;
  /** This process is root of a user namespace only. */
  inUserNamespace: boolean;
  scopes: Scopes;
  log: Logger;
}

export interface CreatePlan {
  /** But for HOME. */
  spec: Spec;
  /** Still looked for while everything else is made ready: it needs the pool, which answers only in the next turns. */
  withItsHome: Promise<Spec>;
  cgroup: CgroupPlan;
  unit: SystemdUnit | undefined;
  filter: Awaited<ReturnType<typeof compileSeccomp>> | undefined;
}

export class Planning {
  readonly #deps: PlanningDependencies;

  constructor(dependencies: PlanningDependencies) {
    this.#deps = dependencies;
  }

  /** Fills in of the record what is known by now. */
  async plan(request: CreateRequest, record: ContainerRecord): Promise<CreatePlan> {
    const { spec, helpers } = await readSpec(request, this.asker(request.key));
    record.idHelpers = helpers;
    const root = request.rootfsOverlay?.lower ?? rootfsOf(spec, request.bundle);
    const withItsHome = withHome(spec, root, request.rootfsMounts);
    const home = withItsHome.catch(() => {});
    try {
      return { spec, withItsHome, ...(await this.#planRest(request, record, spec)) };
    } catch (error) {
      // Nothing of ours stays open in the root.
      await home;
      throw error;
    }
  }

  async #planRest(
    request: CreateRequest,
    record: ContainerRecord,
    spec: Spec,
  ): Promise<Pick<CreatePlan, 'cgroup' | 'unit' | 'filter'>> {
    const { user, inUserNamespace, scopes, log } = this.#deps;
    const cgroups = cgroupsOfRequest(this.#deps.cgroups, request, user !== undefined);
    if (request.systemdCgroup === true) assertHierarchy(cgroups);
    const unit = request.systemdCgroup === true ? await scopes.unitOf(spec, request.key.id) : undefined;
    const cgroup = planCgroup(cgroups, {
      cgroupsPath: unit?.path ?? spec.linux?.cgroupsPath ?? '',
      defaultParent: this.parentOf(request.key),
      id: folderName(request.key.id),
      resources: spec.linux?.resources,
      owner: user === undefined ? cgroupOwner(spec) : undefined,
    });
    // Only root may load one; and a user namespace makes no device nodes.
    if (user !== undefined || inUserNamespace) delete cgroup.deviceProgram;
    const { paths, relative, remove, unwanted } = cgroup;
    record.cgroup = { paths, relative, remove, ...(unwanted && { unwanted }) };
    for (const warning of cgroup.warnings) log.warn(warning, logFields(request.key));
    record.annotations = spec.annotations ?? {};
    record.command = commandText(spec.process.args);
    record.ociVersion = spec.ociVersion;
    record.hooks = laterHooks(spec.hooks);
    record.rootfs = rootfsOf(spec, request.bundle);
    const seccomp = spec.linux?.seccomp;
    const filter = seccomp === undefined ? undefined : await compileSeccomp(seccomp);
    record.filtered = filter !== undefined;
    // A scope is in the intent too: who undoes a half-made container stops it.
    record.unit = unit === undefined || isSliceName(unit.name) ? undefined : unit.name;
    record.endsAlone = canEndAlone(record, request);
    return { cgroup, unit, filter };
  }

  /** Who asks for a container, and what he may have. */
  asker(key: ContainerKey): Asker {
    return {
      user: this.#deps.user,
      unified: this.#deps.cgroups.mode === 'v2',
      warn: (message) => this.#deps.log.warn(message, logFields(key)),
    };
  }

  /** Cgroups of containers that name none: the same id in two namespaces must not meet there. */
  parentOf({ scope, namespace }: ContainerKey): string {
    return scope === '' && namespace === 'default'
      ? this.#deps.cgroupParent
      : `${this.#deps.cgroupParent}/${scopeFolder(scope)}-${namespace}`;
  }
}
