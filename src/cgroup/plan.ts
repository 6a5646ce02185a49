/**
 * What has to be done to the cgroup filesystems for one container, as plain data that a tape carries out: folders to
 * make, values to write, files to attach by, folders to remove. Nothing is changed here; the filesystems are only asked
 * which parents exist, so that the plan has no needless step.
 */
import { posix } from 'node:path';
import { WherryError } from '../errors.ts';
import type { LinuxResources } from '../oci/types.ts';
import { inheritCpuset } from './cpuset.ts';
import { deviceProgram } from './device-program.ts';
import { deviceSettings } from './devices-v1.ts';
import { absenceOf, below, type CgroupHost, type Hierarchy } from './hierarchy.ts';
import { type CgroupFacts, limitsV1 } from './limits-v1.ts';
import { type CgroupV2Facts, limitsV2 } from './limits-v2.ts';
import { type CgroupPath, type CgroupPathRequest, isSystemdForm, resolveCgroupsPath } from './paths.ts';
import { type CgroupProbe, realProbe } from './probe.ts';
import { type CgroupWrite, checkResources, type Setting, type Settings } from './setting.ts';
import { enableControllers } from './subtree.ts';

export interface CgroupRequest extends CgroupPathRequest {
  /** linux.resources */
  resources?: LinuxResources;
  /** Of the host: to whom the cgroup is given (v2 only). */
  owner?: number;
  /** parseProcCgroup() of the process that a relative cgroupsPath is relative to; default: this process. */
  own?: Record<string, string>;
}

export interface CgroupPlan {
  /** Absolute directory by controller; the unified hierarchy's under ''. Empty on hosts without cgroups. */
  paths: Record<string, string>;
  /** The same within the hierarchy, as /proc/PID/cgroup would show it below the mount. */
  relative: Record<string, string>;
  /** To mkdir in this order with 0755; EEXIST is no failure. */
  create: string[];
  /** In this order, after `create` and before anything attaches. Writes to one file stand together. */
  writes: CgroupWrite[];
  /**
   * Files into which the init, still single-threaded, writes "0". v1: `tasks`, which for the caller itself spares the
   * lock that cgroup.procs takes against every fork of the host; unified: cgroup.procs, last.
   */
  procs: string[];
  /** The unified directory, for CLONE_INTO_CGROUP; then its file in `procs` is left out. Not set where that cannot work. */
  cloneInto: string | undefined;
  /** v2: the eBPF program that decides about devices (device-program.ts); undefined: every device is allowed. */
  deviceProgram?: Uint8Array;
  /** v2: the folder and those of its files that there are get this owner. */
  owner?: { uid: number; directory: string; files: readonly string[] };
  /** The container's own directories, to be removed after their descendants (see tree.ts). Parents stay. */
  remove: string[];
  /** None was to be made. */
  unwanted?: true;
  /** What config.json asked for that has no effect on this host: one sentence each. */
  warnings: string[];
}

/** One directory of the container in one hierarchy. */
interface Place {
  hierarchy: Hierarchy;
  /** Path within the mount. */
  path: string;
  directory: string;
}

/**
 * Throws invalid-argument (values, path), failed-precondition (a limit whose controller this
 * host lacks; a cgroup in use), each with the field.
 */
export function planCgroup(
  host: CgroupHost,
  request: CgroupRequest,
  probe: CgroupProbe = realProbe,
): CgroupPlan {
  const resources = request.resources ?? {};
  checkResources(resources);
  const path = resolveCgroupsPath(request);
  if (host.mode === 'none') return withoutCgroups(host, request);
  const places = placesOf(host, request, path);
  // One look is enough to know a new cgroup from one that was made beforehand.
  const sample = places.find(({ hierarchy }) => hierarchy.controllers.includes('pids')) ?? places[0]!;
  const fresh = !probe.exists(sample.directory);
  if (!fresh) checkEmpty(sample.directory, probe);

  const plan: CgroupPlan = {
    paths: byController(places, ({ directory }) => directory),
    relative: byController(places, (place) => place.path),
    create: places.flatMap((place) => missing(place, probe)),
    writes: [],
    procs: places.map(
      ({ hierarchy, directory }) => `${directory}/${hierarchy === host.unified ? 'cgroup.procs' : 'tasks'}`,
    ),
    cloneInto: places.find(({ hierarchy }) => hierarchy === host.unified)?.directory,
    remove: places.map(({ directory }) => directory),
    warnings: [],
  };
  const { settings, warnings } =
    host.mode === 'v2'
      ? limitsV2(resources, factsV2(host, fresh, probe))
      : settingsV1(resources, { fresh, bfq: () => hasBfq(host, probe) });
  plan.warnings.push(...warnings);
  if (isSystemdForm(request.cgroupsPath)) {
    plan.warnings.push(
      `linux.cgroupsPath ${JSON.stringify(request.cgroupsPath)} is taken as a path: --systemd-cgroup was not asked for`,
    );
  }
  if (host.mode === 'v2') {
    if (request.owner !== undefined) plan.owner = ownerOf(request.owner, sample.directory, probe);
    const code = deviceProgram(resources.devices ?? []);
    if (code !== undefined) plan.deviceProgram = code;
    plan.writes.push(...enableControllers(host, sample, settings, plan.create, probe));
    // A pids limit of 0 counts the clone itself; an attach is never counted.
    if (settings.some(({ file, value }) => file === 'pids.max' && value === '0')) plan.cloneInto = undefined;
  } else {
    const cpuset = places.find(({ hierarchy }) => hierarchy.controllers.includes('cpuset'));
    if (cpuset !== undefined) plan.writes.push(...inheritCpuset(cpuset, plan.create, probe));
  }
  for (const setting of settings) plan.writes.push(located(setting, host, plan));
  return plan;
}

/** cgroup-v2.rst, "Delegation": the kernel says which files go along with the folder. */
function ownerOf(uid: number, directory: string, probe: CgroupProbe): NonNullable<CgroupPlan['owner']> {
  const files = probe
    .read('/sys/kernel/cgroup/delegate')
    ?.split('\n')
    .filter((name) => name !== '');
  return { uid, directory, files: files ?? ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads'] };
}

function settingsV1(resources: LinuxResources, facts: CgroupFacts): Settings {
  const { settings, warnings } = limitsV1(resources, facts);
  if (resources.unified !== undefined && Object.keys(resources.unified).length > 0) {
    const path = 'linux.resources.unified';
    throw new WherryError(
      'failed-precondition',
      `${path}: this host has cgroup v1 controllers, which have no such files`,
      {
        path,
      },
    );
  }
  return { settings: [...deviceSettings(resources.devices ?? []), ...settings], warnings };
}

/** The statistics of bfq are in the root too, its weight is not. */
function hasBfq({ hierarchies }: CgroupHost, probe: CgroupProbe): boolean {
  const blkio = hierarchies.find(({ controllers }) => controllers.includes('blkio'));
  return blkio !== undefined && probe.exists(`${blkio.mountPoint}/blkio.bfq.io_service_bytes`);
}

export function factsV2({ unified }: CgroupHost, fresh: boolean, probe: CgroupProbe): CgroupV2Facts {
  return {
    fresh,
    // blk-iocost shows its switch in the root; below it, in a container, the mount's root has the weight itself.
    ioWeight: () =>
      unified !== undefined &&
      ['io.cost.qos', 'io.weight'].some((name) => probe.exists(`${unified.mountPoint}/${name}`)),
    bfqOf: (device) => probe.read(`/sys/dev/block/${device}/queue/scheduler`)?.includes('[bfq]') === true,
  };
}

/** Who has no cgroups runs containers, but none with a limit; and none in a cgroup that is named, where there may be some for others. */
function withoutCgroups(host: CgroupHost, { resources = {}, cgroupsPath }: CgroupRequest): CgroupPlan {
  const { why, hint, wanted } = absenceOf(host);
  const named =
    wanted !== true && host.absence !== undefined && cgroupsPath !== '' ? 'linux.cgroupsPath' : undefined;
  const asked =
    limitsV1(resources, { fresh: true, bfq: () => false }).settings[0]?.field ??
    (Object.keys(resources.unified ?? {}).length > 0 ? 'linux.resources.unified' : undefined) ??
    named;
  if (asked !== undefined) {
    throw new WherryError('failed-precondition', `${asked}: ${why}`, {
      path: asked,
      hint: `${hint}, or remove the ${asked === named ? 'path' : 'limit'}`,
    });
  }
  const nothing = { paths: {}, relative: {}, create: [], writes: [], procs: [], remove: [] };
  if (wanted) return { ...nothing, cloneInto: undefined, warnings: [], unwanted: true };
  return { ...nothing, cloneInto: undefined, warnings: [`the container has no cgroup: ${why}`] };
}

/** The v1 hierarchies in mount order, then the unified one: as runc does it on hybrid hosts. */
function placesOf(host: CgroupHost, request: CgroupRequest, path: CgroupPath): Place[] {
  const ownOf = (hierarchy: Hierarchy) => {
    const given = request.own?.[hierarchy.controllers[0] ?? ''];
    return given === undefined ? hierarchy.own : below(hierarchy.root, given);
  };
  const all = host.unified === undefined ? host.hierarchies : [...host.hierarchies, host.unified];
  return all.map((hierarchy) => {
    const own = ownOf(hierarchy);
    // On v2 the own cgroup holds processes, so it cannot have children with controllers: beside it, as runc does.
    const within = path(host.mode === 'v2' ? posix.dirname(own) : own);
    return { hierarchy, path: within, directory: posix.join(hierarchy.mountPoint, within) };
  });
}

function byController(places: readonly Place[], value: (place: Place) => string): Record<string, string> {
  const named = places.flatMap((place) =>
    (place.hierarchy.controllers.length === 0 ? [''] : place.hierarchy.controllers).map((name) => [
      name,
      value(place),
    ]),
  );
  return Object.fromEntries(named) as Record<string, string>;
}

/** The directory, and before it those of its parents that do not exist. */
function missing({ hierarchy, directory }: Place, probe: CgroupProbe): string[] {
  const create = [directory];
  for (let parent = posix.dirname(directory); parent !== hierarchy.mountPoint && parent !== '/'; ) {
    if (probe.exists(parent)) break;
    create.unshift(parent);
    parent = posix.dirname(parent);
  }
  return create;
}

/** docker and podman make the cgroup beforehand at times; one with processes in it is somebody else's. */
function checkEmpty(directory: string, probe: CgroupProbe): void {
  const processes = (probe.read(`${directory}/cgroup.procs`) ?? '').split('\n').filter((line) => line !== '');
  if (processes.length > 0) {
    throw new WherryError(
      'failed-precondition',
      `container's cgroup is not empty: ${processes.length} process(es) found`,
      { path: 'linux.cgroupsPath', hint: `${directory} is in use; give the container another cgroup` },
    );
  }
}

function located(
  { controller, file, value, field, mayFail }: Setting,
  host: CgroupHost,
  plan: CgroupPlan,
): CgroupWrite {
  const unifiedOnly = host.mode === 'v2';
  const directory = plan.paths[unifiedOnly ? '' : controller];
  if (directory === undefined) {
    throw new WherryError(
      'failed-precondition',
      `${field}: this host has no ${controller} cgroup controller`,
      {
        path: field,
        hint: `mount the ${controller} controller or remove the limit`,
      },
    );
  }
  return { file: `${directory}/${file}`, value, field, ...(mayFail && { mayFail }) };
}
