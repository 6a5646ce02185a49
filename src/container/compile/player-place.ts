/**
 * Where the player itself runs, and with it what is the container's but not in it: its hooks and loggers (containerd's ShimCgroup), and
 * with which processes it shares a core's threads (SCHED_CORE). The container inherits the second and leaves the first for its own cgroup.
 */
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import {
  AT_FDCWD,
  O_CLOEXEC,
  O_WRONLY,
  PR_SCHED_CORE,
  PR_SCHED_CORE_CREATE,
  PR_SCHED_CORE_SHARE_FROM,
} from '../../linux/constants.ts';
import type { ProcessSettings } from '../types.ts';
import type { Program } from './program.ts';

/** PR_SCHED_CORE_SCOPE_THREAD: the player has one. */
const ONE_THREAD = 0;

/** `coreOf`: the init whose cores are shared; undefined: the first of its group. */
export function placePlayer(
  program: Program,
  cgroups: CgroupHost,
  settings: ProcessSettings | undefined,
  coreOf: number | undefined,
): void {
  if (settings?.playerCgroup !== undefined) enterCgroup(program, cgroups, settings.playerCgroup);
  if (settings?.schedCore === true) shareCore(program, coreOf);
}

/** In each v1 hierarchy that has it, as containerd's own shim does; in none of them is an error. */
function enterCgroup(program: Program, cgroups: CgroupHost, path: string): void {
  const { tape } = program;
  const hierarchies = cgroups.mode === 'v2' ? [cgroups.unified] : cgroups.hierarchies;
  const entered = tape.set(0);
  program.step('options.shim_cgroup', `enter the cgroup ${path}`);
  for (const hierarchy of hierarchies) {
    if (hierarchy === undefined) continue;
    const missing = tape.label('not_here');
    const procs = `${hierarchy.mountPoint}/${path.replace(/^\/+/, '')}/cgroup.procs`;
    const file = tape.syscall('openat', [AT_FDCWD, procs, O_WRONLY | O_CLOEXEC, 0], {
      on: { ENOENT: missing },
    });
    tape.syscall('write', [file, '0', 1]);
    program.close(file);
    tape.set(1, entered);
    tape.place(missing);
  }
  const done = tape.label('entered');
  tape.jumpIfEqual(entered, 1, done);
  tape.fail('ENOENT');
  tape.place(done);
}

function shareCore(program: Program, coreOf: number | undefined): void {
  const { tape } = program;
  const create = tape.label('own_core');
  const shared = tape.label('core_shared');
  if (coreOf !== undefined) {
    program.step('SCHED_CORE', `share cores with process ${coreOf}`);
    tape.syscall('prctl', [PR_SCHED_CORE, PR_SCHED_CORE_SHARE_FROM, coreOf, ONE_THREAD, 0], {
      on: { ESRCH: create },
    });
    tape.jump(shared);
    tape.place(create);
  }
  program.step('SCHED_CORE', 'take cores for itself');
  tape.syscall('prctl', [PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, ONE_THREAD, 0]);
  tape.place(shared);
}
