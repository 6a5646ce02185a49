/** Into which cgroups an exec goes: its container's, or folders below them (`--cgroup`). */
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { below, type CgroupHost, parseProcCgroup } from '../cgroup/hierarchy.ts';
import { WherryError } from '../errors.ts';
import type { ExecCgroup } from './compile/exec.ts';
import type { ContainerRecord } from './record.ts';

/** `wanted`: relative path by v1 controller; '' is every hierarchy. */
export function execCgroup(
  host: CgroupHost,
  record: Pick<ContainerRecord, 'cgroup' | 'pid' | 'resctrl'>,
  wanted: Readonly<Record<string, string>>,
): ExecCgroup {
  const paths = record.cgroup?.paths ?? {};
  for (const controller of Object.keys(wanted)) {
    if (controller !== '' && paths[controller] === undefined) {
      throw new WherryError('invalid-argument', `unknown controller ${controller} in --cgroup`, {
        path: '--cgroup',
        hint: `this host has ${
          Object.keys(paths)
            .filter((name) => name !== '')
            .join(', ') || 'no v1 controllers'
        }`,
      });
    }
  }
  // Co-mounted controllers share one folder: a path that is given for one of them is meant for all.
  const named = new Map<string, string>();
  for (const [controller, directory] of Object.entries(paths)) {
    const path = wanted[controller];
    if (path !== undefined) named.set(directory, path);
  }
  const place = (directory: string) => beneath(directory, named.get(directory) ?? wanted[''] ?? '');
  // The freezer comes last: in a paused container the process stands still from there on.
  const { '': own, freezer, ...controllers } = paths;
  const unified = own === undefined ? undefined : place(own);
  const directories = new Set([...Object.values(controllers), ...(freezer === undefined ? [] : [freezer])]);
  const procs = [...directories].map((directory) => `${place(directory)}/tasks`);
  procs.unshift(...(record.resctrl?.tasks ?? []));
  if (unified === undefined) return { procs };
  const instead =
    host.mode === 'v2' && Object.keys(wanted).length === 0 ? cgroupOfInit(host, record.pid) : undefined;
  return {
    procs,
    cloneInto: unified,
    ...(instead !== undefined && instead !== unified && { instead }),
  };
}

function beneath(directory: string, path: string): string {
  if (path.split('/').includes('..') || /[\0\n]/.test(path)) {
    throw new WherryError('invalid-argument', `bad cgroup path: ${path}`, {
      path: '--cgroup',
      hint: "name a folder below the container's cgroup, without ..",
    });
  }
  return posix.join(directory, path).replace(/\/+$/, '');
}

/** A container with cgroups of its own (an init system, a nested engine) has moved its init into one of them. */
function cgroupOfInit({ unified }: CgroupHost, pid: number): string | undefined {
  if (unified === undefined) return undefined;
  try {
    const path = parseProcCgroup(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))[''];
    return path === undefined ? undefined : posix.join(unified.mountPoint, below(unified.root, path));
  } catch {
    return undefined;
  }
}
