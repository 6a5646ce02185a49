/** What each runtime really did for the container that is timed, so that nobody is fast by doing less. */
import type { Contestant } from './contestants.ts';

/** Printed by a shell inside the container. */
export const readbackScript =
  'grep -c . /proc/self/mountinfo; cut -d: -f3 /proc/self/cgroup | tr "\\n" " "; echo; ' +
  'for ns in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$ns; done | tr "\\n" " "; echo; ' +
  'grep -E "^(Seccomp|NoNewPrivs|CapBnd):" /proc/self/status | tr "\\n\\t" "  "; echo; ls /dev | tr "\\n" " "';

export interface Readback {
  mounts: number;
  /** Path of each hierarchy as seen inside; "/" where a cgroup namespace hides it. */
  cgroups: string[];
  namespaces: string[];
  privileges: string;
  devices: string;
}

export async function readBack(contestant: Contestant, bundle: string, id: string): Promise<Readback> {
  const result = await contestant.run(bundle, id);
  if (result.code !== 0) throw new Error(`${contestant.name}: exit code ${result.code}: ${result.stderr}`);
  const [mounts, cgroups = '', namespaces = '', privileges = '', devices = ''] = result.stdout.split('\n');
  return {
    mounts: Number(mounts),
    cgroups: [...new Set(cgroups.trim().split(' '))],
    namespaces: namespaces.trim().split(' '),
    privileges: privileges.trim(),
    devices: devices.trim(),
  };
}
