/**
 * src/cgroup: where control groups are, what a container's cgroup is made of, and what it has used.
 * Everything that changes a cgroup is planned here as plain data and carried out by tapes; this folder only ever reads.
 * It knows config.json's linux.resources, but no container, no RPC and no tape.
 *
 * This file: which hierarchies this host has mounted. Sources: proc(5) on mountinfo and cgroup, cgroups(7).
 */
import { readFileSync } from 'node:fs';
import { basename, relative } from 'node:path';
import { parseMountinfo } from '../linux/mountinfo.ts';

/** hybrid: v1 controllers with a cgroup2 mount beside them; none: no cgroup filesystem is mounted. */
export type CgroupMode = 'v1' | 'hybrid' | 'v2' | 'none';

/** One mounted cgroup hierarchy. Paths are absolute and carry no trailing slash ('/' alone excepted). */
export interface Hierarchy {
  /** Name of the mount point's folder: 'memory', 'cpu,cpuacct', 'systemd'. */
  folder: string;
  mountPoint: string;
  /** v1: what is mounted here ('cpu', 'cpuacct'; 'name=systemd'). Empty for the unified hierarchy. */
  controllers: string[];
  /** Which folder of the hierarchy the mount shows: '/' but in containers without a cgroup namespace. */
  root: string;
  /** This process' cgroup as seen below `mountPoint`. */
  own: string;
}

export interface CgroupHost {
  mode: CgroupMode;
  /** The v1 hierarchies in mount order, named ones too. Empty on v2. */
  hierarchies: Hierarchy[];
  /** The cgroup2 mount: the only hierarchy on v2, the extra one on hybrid hosts. */
  unified: Hierarchy | undefined;
  /** What the unified hierarchy's root offers (cgroup.controllers). */
  unifiedControllers: string[];
  /** Why there are none for us although the host may have some; undefined: nothing is mounted. */
  absence?: Absence;
}

/** As if nothing were mounted. */
export function noCgroups(absence?: Absence): CgroupHost {
  const nothing = { hierarchies: [], unified: undefined, unifiedControllers: [] };
  return { mode: 'none', ...nothing, ...(absence !== undefined && { absence }) };
}

export interface Absence {
  why: string;
  hint: string;
  /** The caller wants none: its path is of no interest, and there is nothing to warn of. */
  wanted?: boolean;
}

/** crun's `--cgroup-manager disabled`: the processes stay where whoever clones them is. The words are crun's. */
export const UNWANTED: Absence = {
  why: 'cannot set limits without cgroups (--cgroup-manager disabled)',
  hint: 'choose another manager',
  wanted: true,
};

const NOT_MOUNTED: Absence = {
  why: 'no cgroup filesystem is mounted',
  hint: 'mount cgroup2 on /sys/fs/cgroup',
};

/** Of a host whose mode is `none`. */
export function absenceOf({ absence = NOT_MOUNTED }: CgroupHost): Absence {
  return absence;
}

/** The texts that the answer depends on, so that other hosts can be described in tests. */
export interface CgroupSources {
  /** /proc/self/mountinfo */
  mountinfo: string;
  /** /proc/cgroups; '' where the kernel has no v1. */
  cgroups: string;
  /** /proc/self/cgroup */
  own: string;
  /** cgroup.controllers of the unified root; '' where there is none. */
  controllers(mountPoint: string): string;
}

/** For kernels without /proc/cgroups: cgroups(7), "Cgroups version 1 controllers". */
const KNOWN_CONTROLLERS = [
  'cpuset',
  'cpu',
  'cpuacct',
  'blkio',
  'memory',
  'devices',
  'freezer',
  'net_cls',
  'perf_event',
  'net_prio',
  'hugetlb',
  'pids',
  'rdma',
  'misc',
];

/** What is mounted here and now. Reads three files of /proc; call it once and keep the answer. */
export function detectCgroups(): CgroupHost {
  return describeCgroups({
    mountinfo: readText('/proc/self/mountinfo'),
    cgroups: readText('/proc/cgroups'),
    own: readText('/proc/self/cgroup'),
    controllers: (mountPoint) => readText(`${mountPoint}/cgroup.controllers`),
  });
}

/** The same from given texts. */
export function describeCgroups(sources: CgroupSources): CgroupHost {
  const own = parseProcCgroup(sources.own);
  const known = new Set(parseControllers(sources.cgroups));
  const v1: Hierarchy[] = [];
  let unified: Hierarchy | undefined;
  for (const { type, place: mountPoint, root, options } of parseMountinfo(sources.mountinfo)) {
    if (type !== 'cgroup' && type !== 'cgroup2') continue;
    const controllers =
      type === 'cgroup2' ? [] : options.filter((option) => known.has(option) || option.startsWith('name='));
    const found = {
      folder: basename(mountPoint),
      mountPoint,
      controllers,
      root,
      own: below(root, own[controllers[0] ?? ''] ?? '/'),
    };
    if (type === 'cgroup2') {
      unified = preferred(unified, found);
    } else if (controllers.length > 0) {
      // The same hierarchy may be mounted more than once.
      const same = v1.findIndex((other) => other.controllers.some((name) => controllers.includes(name)));
      if (same < 0) v1.push(found);
      else v1[same] = preferred(v1[same], found);
    }
  }
  const hasV1 = v1.some(({ controllers }) => controllers.some((name) => !name.startsWith('name=')));
  return {
    mode: hasV1 ? (unified === undefined ? 'v1' : 'hybrid') : unified === undefined ? 'none' : 'v2',
    hierarchies: hasV1 ? v1 : [],
    unified,
    unifiedControllers: unified === undefined ? [] : words(sources.controllers(unified.mountPoint)),
  };
}

/** /proc/PID/cgroup: path by controller, the unified one under ''. The path may itself contain colons. */
export function parseProcCgroup(text: string): Record<string, string> {
  const paths: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const first = line.indexOf(':');
    const second = line.indexOf(':', first + 1);
    if (first < 0 || second < 0) continue;
    const path = line.slice(second + 1);
    for (const controller of line.slice(first + 1, second).split(',')) paths[controller] = path;
  }
  return paths;
}

/** /proc/cgroups: the names of the enabled controllers. */
function parseControllers(text: string): string[] {
  const names = text
    .split('\n')
    .map((line) => line.split('\t'))
    .filter((fields) => fields.length >= 4 && !fields[0]!.startsWith('#') && fields[3] === '1')
    .map((fields) => fields[0]!);
  return names.length === 0 ? KNOWN_CONTROLLERS : names;
}

/** Containers' own mounts of a hierarchy may be visible too: the one below /sys/fs/cgroup is the host's. */
function preferred(known: Hierarchy | undefined, found: Hierarchy): Hierarchy {
  const standard = ({ mountPoint }: Hierarchy) => mountPoint.startsWith('/sys/fs/cgroup');
  return known === undefined || (!standard(known) && standard(found)) ? found : known;
}

/** In a container without a cgroup namespace /proc shows the host's path, of which the mount shows only a part. */
export function below(root: string, path: string): string {
  if (root === '/') return path;
  const inside = relative(root, path);
  return inside === '..' || inside.startsWith('../') ? '/' : `/${inside}`;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

/** '' for a file that is not there: a host without cgroups is described, not refused. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
