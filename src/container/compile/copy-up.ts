/**
 * The mount option tmpcopyup: a tmpfs begins with what the image has in its place. A tape has no loops, so a small program
 * (native/copyup.c) copies, between two descriptors and inside the container's namespaces, before the tmpfs is attached.
 */
import {
  __WALL,
  AT_EMPTY_PATH,
  AT_FDCWD,
  F_DUPFD_CLOEXEC,
  MOUNT_ATTR_RDONLY,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  SIGCHLD,
  STATX_MODE,
} from '../../linux/constants.ts';
import { type ErrnoName, errnoNumbers } from '../../linux/errno.ts';
import { cloneArgs } from '../../linux/structs.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Reg } from '../../tape/refs.ts';
import { failByValue } from './fail-by-value.ts';
import type { Program } from './program.ts';

/** Where the program expects its folders. */
const FROM = 3;
const TO = 4;
/** Above both, and above what the tape may have open there. */
const ASIDE = 16;
/** What a copy mostly fails with; anything else is told as EIO. */
const told: readonly ErrnoName[] = ['ENOSPC', 'EPERM', 'EACCES', 'ENOENT', 'EMFILE', 'ENOEXEC'];

/** The program on a read-only mount that is nowhere: whoever finds it by /proc cannot change it (CVE-2019-5736). */
export function openCopier(program: Program, libexec: string, path: string): Reg {
  program.step(path, 'open the program that copies');
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const copier = program.tape.syscall('open_tree', [AT_FDCWD, `${libexec}/copyup`, flags]);
  program.setAttributes(copier, { set: MOUNT_ATTR_RDONLY });
  return copier;
}

/** `tree` is attached nowhere yet and writable. Nothing happens where the image has no such folder. */
export function copyUp(program: Program, copier: Reg, destination: string, tree: Reg, path: string): void {
  const { tape } = program;
  program.step(path, `copy ${destination} of the image into the tmpfs`);
  const absent = tape.label('absent');
  const from = program.openInRoot(program.root, destination, O_RDONLY | O_DIRECTORY, {
    on: { ENOENT: absent },
  });
  const args = cloneArgs({ flags: 0, exitSignal: SIGCHLD });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const copying = tape.label('copying');
  const parent = tape.label('init');
  tape.jumpIfEqual(pid, 0, copying);
  tape.jump(parent);
  tape.place(copying);
  // It has the lane of its parent, so it tells nothing there: its exit code does.
  const broken = tape.label('broken');
  const on = { any: broken };
  const aside = [from, tree, copier].map((descriptor) =>
    tape.syscall('fcntl', [descriptor, F_DUPFD_CLOEXEC, ASIDE], { on }),
  ) as [Reg, Reg, Reg];
  tape.syscall('dup3', [aside[0], FROM, 0], { on });
  tape.syscall('dup3', [aside[1], TO, 0], { on });
  const argv = tape.pointers([tape.cstr('copyup'), null]);
  tape.syscall('execveat', [aside[2], '', argv, tape.pointers([null]), AT_EMPTY_PATH], { on });
  tape.place(broken);
  tape.syscall('exit_group', [errnoNumbers.ENOEXEC]);
  tape.place(parent);
  const status = tape.space(8);
  tape.syscall('wait4', [pid, status, __WALL, 0]);
  const copied = tape.label('copied');
  const result = tape.load(status.at(0, 4), 4);
  tape.jumpIfEqual(result, 0, copied);
  failByValue(program, result, told, (errno) => errno << 8);
  tape.place(copied);
  program.close(from);
  tape.place(absent);
}

/** The permissions of the image's folder go over to a tmpfs that names none (as runc has it). */
export function keepMode(program: Program, destination: string): (tree: Reg) => void {
  const { tape } = program;
  const mode = tape.reg('mode');
  const absent = tape.label('absent');
  const folder = program.openInRoot(program.root, destination, O_PATH | O_DIRECTORY, {
    on: { ENOENT: absent },
  });
  const stat = tape.space(sizeOf('statx'));
  tape.syscall('statx', [folder, '', AT_EMPTY_PATH, STATX_MODE, stat]);
  tape.load(stat.at(fieldOf('statx', 'stx_mode')[0], 4), 4, mode);
  program.close(folder);
  tape.place(absent);
  return (tree) => {
    const unknown = tape.label('unknown');
    tape.jumpIfEqual(mode, 0, unknown);
    const top = tape.syscall('openat', [tree, '.', O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0]);
    tape.syscall('fchmod', [top, mode]);
    program.close(top);
    tape.place(unknown);
  };
}
