/** linux.maskedPaths and linux.readonlyPaths, and a read-only root: what the container may not see or change. */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MOUNT_ATTR_RDONLY,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  STATX_TYPE,
} from '../../linux/constants.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import { ownsDev } from './devices.ts';
import { newFilesystem } from './filesystem.ts';
import { withLabel } from './mount-label.ts';
import type { Program } from './program.ts';

/** major 1, minor 3 as statx gives them, side by side in 8 bytes. */
export const NULL_DEVICE = (3n << 32n) | 1n;

/**
 * A /dev/null, opened once and proven to be 1:3: a bind source that is swapped meanwhile would show another file
 * (CVE-2025-31133). The container's own where we make its /dev, else the host's. Must be called before pivot_root.
 */
export function openNullDevice(program: Program, spec: Spec): Reg {
  const { tape } = program;
  program.step('linux.maskedPaths', 'open /dev/null and prove that it is the null device');
  const device = ownsDev(spec)
    ? program.openInRoot(program.root, 'dev/null', O_PATH)
    : tape.syscall('openat', [AT_FDCWD, '/dev/null', O_PATH | O_CLOEXEC, 0]);
  const stat = tape.space(sizeOf('statx'));
  tape.syscall('statx', [device, '', AT_EMPTY_PATH, STATX_TYPE, stat]);
  const number = tape.load(stat.at(fieldOf('statx', 'stx_rdev_major')[0], 8), 8);
  const proven = tape.label('proven');
  tape.jumpIfEqual(number, NULL_DEVICE, proven);
  tape.fail('ENODEV');
  tape.place(proven);
  return device;
}

/** Files get /dev/null, folders one shared, empty, read-only tmpfs; what is not there needs no mask. */
export function maskPaths(program: Program, spec: Spec, nullDevice: Reg | undefined): void {
  const paths = spec.linux?.maskedPaths ?? [];
  if (paths.length === 0 || nullDevice === undefined) return;
  const { tape } = program;
  program.step('linux.maskedPaths', 'make the empty folder that hides folders');
  const empty = newFilesystem(
    program,
    'tmpfs',
    'tmpfs',
    {
      parameters: withLabel(spec, 'tmpfs', [
        ['nr_blocks', '1'],
        ['nr_inodes', '1'],
      ]),
      attrSet: MOUNT_ATTR_RDONLY,
    },
    'linux.maskedPaths',
  );
  const attached = tape.reg('attached');
  paths.forEach((path, index) => {
    program.step(`linux.maskedPaths[${index}]`, `hide ${path}`);
    const absent = tape.label('absent');
    const file = tape.label('file');
    const done = tape.label('hidden');
    // Asked for, not tried: to drop a clone of the device that fits nowhere the kernel waits for all processors.
    const target = program.openInRoot(program.root, path, O_PATH | O_DIRECTORY, {
      on: { ENOENT: absent, ENOTDIR: file },
    });
    // Before Linux 6.15 only an attached mount can be cloned: the first folder gets the mount itself.
    const again = tape.label('again');
    tape.jumpIfEqual(attached, 1, again);
    program.attach(empty, target);
    tape.set(1, attached);
    tape.jump(done);
    tape.place(again);
    const cover = clone(program, empty);
    program.attach(cover, target);
    program.close(cover);
    tape.jump(done);
    tape.place(file);
    program.openInRoot(program.root, path, O_PATH, { on: { ENOENT: absent, ENOTDIR: absent }, into: target });
    const device = clone(program, nullDevice);
    program.attach(device, target);
    program.close(device);
    tape.place(done);
    program.close(target);
    tape.place(absent);
  });
  program.close(empty);
}

export function protectPaths(program: Program, spec: Spec): void {
  const { tape } = program;
  (spec.linux?.readonlyPaths ?? []).forEach((path, index) => {
    program.step(`linux.readonlyPaths[${index}]`, `make ${path} read-only`);
    const absent = tape.label('absent');
    const target = program.openInRoot(program.root, path, O_PATH, {
      on: { ENOENT: absent, ENOTDIR: absent },
    });
    const view = tape.syscall('open_tree', [
      target,
      '',
      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE,
    ]);
    program.setAttributes(view, { set: MOUNT_ATTR_RDONLY }, true);
    program.attach(view, target);
    program.close(view);
    program.close(target);
    tape.place(absent);
  });
}

/** A second mount of what a descriptor stands for, attached nowhere. */
function clone(program: Program, source: Reg): Reg {
  return program.tape.syscall('open_tree', [source, '', OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH]);
}
