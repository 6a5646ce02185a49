/** The tape that takes away what a create tape made on the host. Playing it twice is harmless. */
import { AT_FDCWD, AT_REMOVEDIR, UMOUNT_NOFOLLOW } from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';

export interface RemoveInput {
  /** Where containerd's rootfs mounts were put; undefined: nothing was mounted by us. */
  rootfs: string | undefined;
  /** How many mounts lie there at most. */
  rootfsMounts?: number;
  /** Deepest first. A cgroup with a process in it is EBUSY: the tape fails and may be played again. */
  cgroupDirectories: readonly string[];
}

export function compileRemove(input: RemoveInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  if (input.rootfs !== undefined) {
    program.step('rootfs', `unmount ${input.rootfs}`);
    for (let left = input.rootfsMounts ?? 1; left > 0; left--) {
      const clear = tape.label('clear');
      // EINVAL: nothing is mounted there any more.
      tape.syscall('umount2', [input.rootfs, UMOUNT_NOFOLLOW], { on: { EINVAL: clear, ENOENT: clear } });
      tape.place(clear);
    }
  }
  for (const directory of input.cgroupDirectories) {
    program.step('linux.cgroupsPath', `remove the cgroup ${directory}`);
    const gone = tape.label('gone');
    tape.syscall('unlinkat', [AT_FDCWD, directory, AT_REMOVEDIR], { on: { ENOENT: gone } });
    tape.place(gone);
  }
  tape.halt(0);
  return tape.assemble();
}
