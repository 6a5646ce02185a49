/** The tape that takes away what a create tape made on the host. Playing it twice is harmless. */
import { AT_FDCWD, AT_REMOVEDIR } from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';
import { unmountRootfs } from './rootfs-mounts.ts';

export interface RemoveInput {
  /** Where containerd's rootfs mounts were put; undefined: nothing was mounted by us. */
  rootfs: string | undefined;
  /** Where they lie below it, in the order in which they were mounted; '' is the root itself. */
  rootfsTargets?: readonly string[];
  /** Deepest first. A cgroup with a process in it is EBUSY: the tape fails and may be played again. */
  cgroupDirectories: readonly string[];
}

export function compileRemove(input: RemoveInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  if (input.rootfs !== undefined) {
    unmountRootfs(program, input.rootfsTargets ?? [''], input.rootfs);
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
