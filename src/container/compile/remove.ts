/** The tape that takes away what a create tape made on the host. Playing it twice is harmless. */
import {
  AT_FDCWD,
  AT_REMOVEDIR,
  O_CLOEXEC,
  O_RDONLY,
  POLLPRI,
  UMOUNT_NOFOLLOW,
} from '../../linux/constants.ts';
import { encode, timespec } from '../../linux/structs.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';
import { unmountRootfs } from './rootfs-mounts.ts';

export interface RemoveInput {
  /** Groups of resctrl, in this order. */
  resctrl?: readonly string[] | undefined;
  /** Where containerd's rootfs mounts were put; undefined: nothing was mounted by us. */
  rootfs: string | undefined;
  /** Where they lie below it, in the order in which they were mounted; '' is the root itself. */
  rootfsTargets?: readonly string[];
  /** What others have mounted below it, deepest first. */
  nestedMounts?: readonly string[];
  /** Deepest first. A cgroup with a process in it is EBUSY: the tape fails and may be played again. */
  cgroupDirectories: readonly string[];
  /** Wait a few seconds in each of them until its last process has gone; only cgroup v2 can tell. */
  waitForTheLast?: boolean;
}

/** Looks at cgroup.events, each ended by a change or by its time: a change may be another than the one that is waited for. */
const LOOKS = 16;
const LOOK_MS = 250;

export function compileRemove(input: RemoveInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  for (const path of input.nestedMounts ?? []) {
    program.step('rootfs', `unmount ${path}`);
    const clear = tape.label('clear');
    tape.syscall('umount2', [path, UMOUNT_NOFOLLOW], { on: { EINVAL: clear, ENOENT: clear } });
    tape.place(clear);
  }
  if (input.rootfs !== undefined) {
    unmountRootfs(program, input.rootfsTargets ?? [''], input.rootfs);
  }
  for (const directory of input.cgroupDirectories) {
    if (input.waitForTheLast === true) waitUntilEmpty(program, directory);
    program.step('linux.cgroupsPath', `remove the cgroup ${directory}`);
    const gone = tape.label('gone');
    tape.perform('unlinkat', [AT_FDCWD, directory, AT_REMOVEDIR], { ENOENT: gone });
    tape.place(gone);
  }
  for (const group of input.resctrl ?? []) {
    program.step('linux.intelRdt', `remove the group ${group}`);
    const gone = tape.label('gone');
    tape.syscall('unlinkat', [AT_FDCWD, group, AT_REMOVEDIR], { on: { ENOENT: gone } });
    tape.place(gone);
  }
  tape.halt(0);
  return tape.assemble();
}

/** cgroup-v2.rst, "[Un]populated Notification": cgroup.events changes, and whoever polls it wakes up. Without that file nothing is waited for. */
function waitUntilEmpty(program: Program, directory: string): void {
  const { tape } = program;
  program.step('linux.cgroupsPath', `wait for the last process of ${directory}`);
  const none = tape.label('no_events');
  const empty = tape.label('empty');
  const events = tape.syscall('openat', [AT_FDCWD, `${directory}/cgroup.events`, O_RDONLY | O_CLOEXEC, 0], {
    on: { ENOENT: none },
  });
  const text = tape.space(64);
  const poll = tape.struct(encode('pollfd', { events: POLLPRI }));
  tape.store(events, poll.at(0, 4), 4);
  for (let look = 0; look < LOOKS; look++) {
    // ENODEV: the cgroup is gone.
    tape.syscall('pread64', [events, text, 64, 0], { on: { ENODEV: empty } });
    // "populated 0", of which the last four bytes begin where a load may.
    tape.jumpIfEqual(tape.load(text.at(8, 4), 4), Buffer.from('d 0\n').readUInt32LE(), empty);
    tape.syscall('ppoll', [poll, 1, tape.struct(timespec(LOOK_MS)), 0, 8]);
  }
  tape.place(empty);
  program.close(events);
  tape.place(none);
}
