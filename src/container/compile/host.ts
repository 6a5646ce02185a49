/** The player's own part of a create tape: what is done on the host before the init is cloned. */
import { dirname } from 'node:path';
import type { CgroupPlan } from '../../cgroup/plan.ts';
import { WherryError } from '../../errors.ts';
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MS_DIRSYNC,
  MS_MANDLOCK,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_RELATIME,
  MS_STRICTATIME,
  MS_SYNCHRONOUS,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  S_IFIFO,
} from '../../linux/constants.ts';
import type { MountSpec } from '../types.ts';
import { setDeviceProgram } from './cgroup-v2.ts';
import { parseMountOptions } from './mount-options.ts';
import type { Program } from './program.ts';

/** Modes given below are meant as they stand. Signals are the player's own business: it resets all of them before it plays (hazards A3). */
export function resetProcess(program: Program): void {
  program.step('', 'reset the umask');
  program.tape.syscall('umask', [0]);
}

/** The gate between created and started: an open of this FIFO for reading needs no living partner. */
export function makeStartGate(program: Program, stateDir: string): void {
  const { tape } = program;
  program.step('', 'make the exec FIFO');
  tape.syscall('mknodat', [AT_FDCWD, `${stateDir}/exec.fifo`, S_IFIFO | 0o644, 0]);
}

export function createCgroup(program: Program, plan: CgroupPlan): void {
  const { tape } = program;
  for (const directory of plan.create) {
    program.step('linux.cgroupsPath', `make the cgroup ${directory}`);
    const there = tape.label('there');
    const orphaned = tape.label('parent_gone');
    tape.syscall('mkdirat', [AT_FDCWD, directory, 0o755], { on: { EEXIST: there, ENOENT: orphaned } });
    tape.jump(there);
    // A parent that was there when this was planned went with the last container of somebody else.
    tape.place(orphaned);
    const parent = dirname(directory);
    for (const folder of [dirname(parent), parent, directory]) {
      const made = tape.label('made');
      tape.syscall('mkdirat', [AT_FDCWD, folder, 0o755], { on: { EEXIST: made } });
      tape.place(made);
    }
    tape.place(there);
  }
  for (let index = 0; index < plan.writes.length; ) {
    // Writes to one file stand together: it is opened once.
    const { file } = plan.writes[index]!;
    const values: { value: string; field: string; mayFail?: readonly string[] }[] = [];
    for (; plan.writes[index]?.file === file; index++) values.push(plan.writes[index]!);
    program.writeValues(file, values);
  }
  if (plan.deviceProgram !== undefined && plan.paths[''] !== undefined)
    setDeviceProgram(program, plan.paths[''], plan.deviceProgram);
  if (plan.owner !== undefined) giveCgroup(program, plan.owner);
}

function giveCgroup(program: Program, { uid, directory, files }: NonNullable<CgroupPlan['owner']>): void {
  const { tape } = program;
  program.step('linux.uidMappings', `give the cgroup ${directory} to user ${uid}`);
  tape.syscall('fchownat', [AT_FDCWD, directory, uid, -1, 0]);
  for (const file of files) {
    // Files of controllers that this cgroup has not.
    const missing = tape.label('missing');
    tape.syscall('fchownat', [AT_FDCWD, `${directory}/${file}`, uid, -1, 0], { on: { ENOENT: missing } });
    tape.place(missing);
  }
}

/** The host's part of mount(2): flags by option. */
const mountFlags: Record<string, number> = {
  ro: MS_RDONLY,
  nosuid: MS_NOSUID,
  nodev: MS_NODEV,
  noexec: MS_NOEXEC,
  sync: MS_SYNCHRONOUS,
  dirsync: MS_DIRSYNC,
  mand: MS_MANDLOCK,
  noatime: MS_NOATIME,
  nodiratime: MS_NODIRATIME,
  relatime: MS_RELATIME,
  strictatime: MS_STRICTATIME,
};
const noFlags = new Set([
  'rw',
  'suid',
  'dev',
  'exec',
  'async',
  'nomand',
  'atime',
  'diratime',
  'norelatime',
  'nostrictatime',
  'defaults',
]);

/** mount(2) takes at most a page of data, its NUL included. */
const MOUNT_DATA_MAX = 4095;

/** containerd's rootfs mounts, in order, onto <bundle>/rootfs (shim contract section 7). */
export function mountRootfs(
  program: Program,
  mounts: readonly MountSpec[],
  onto: string,
  field: string,
): void {
  const { tape } = program;
  mounts.forEach((mount, index) => {
    const path = `${field}[${index}]`;
    if (components(mount.target).length > 0 || mount.target.includes('..')) {
      throw new WherryError(
        'unimplemented',
        `${path}.target: a mount below the root filesystem is not supported yet`,
        {
          path: `${path}.target`,
        },
      );
    }
    const foreign = mount.options.find(
      (option) => option.startsWith('X-containerd.') || option.startsWith('uidmap=') || option === 'loop',
    );
    if (foreign !== undefined) {
      throw new WherryError('unimplemented', `${path}.options: ${foreign} is not supported yet`, {
        path: `${path}.options`,
      });
    }
    program.step(path, `mount ${mount.type} ${mount.source} on ${onto}`);
    const there = tape.label('there');
    tape.syscall('mkdirat', [AT_FDCWD, onto, 0o711], { on: { EEXIST: there } });
    tape.place(there);
    const options = parseMountOptions(mount.options);
    if (options.bind || mount.type === 'bind') {
      const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
      const tree = tape.syscall('open_tree', [AT_FDCWD, mount.source, flags]);
      if (options.attrSet !== 0 || options.attrClear !== 0) {
        program.setAttributes(tree, { set: options.attrSet, clear: options.attrClear });
      }
      const target = tape.syscall('openat', [AT_FDCWD, onto, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
      program.attach(tree, target);
      program.close(tree);
      program.close(target);
      return;
    }
    let flags = 0;
    const data: string[] = [];
    for (const option of mount.options) {
      const flag = Object.hasOwn(mountFlags, option) ? mountFlags[option] : undefined;
      if (flag !== undefined) flags |= flag;
      else if (!noFlags.has(option)) data.push(option);
    }
    const text = data.join(',');
    if (Buffer.byteLength(text) > MOUNT_DATA_MAX) {
      throw new WherryError(
        'unimplemented',
        `${path}.options: more than ${MOUNT_DATA_MAX} bytes are not supported yet`,
        {
          path: `${path}.options`,
        },
      );
    }
    tape.syscall('mount', [mount.source, onto, mount.type, flags, text]);
  });
}

function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}
