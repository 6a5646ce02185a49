/**
 * The container's view of its cgroups: on v2 one mount, on v1 a small tmpfs with one folder for each hierarchy, as runc
 * and systemd lay it out (cgroups(7)).
 */
import {
  AT_FDCWD,
  FSCONFIG_CMD_CREATE,
  FSCONFIG_SET_FLAG,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
} from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import { newFilesystem } from './filesystem.ts';
import type { CreateInput } from './input.ts';
import type { MountOptions } from './mount-options.ts';
import { hasNewNamespace } from './namespaces.ts';
import type { Program } from './program.ts';

export function mountCgroups(program: Program, input: CreateInput, target: Reg, options: MountOptions): void {
  if (input.cgroups.mode === 'v2') {
    mountUnified(program, input, target, options);
  } else {
    mountHierarchies(program, input, target, options);
  }
  program.close(target);
}

function mountUnified(program: Program, _input: CreateInput, target: Reg, options: MountOptions): void {
  const tree = newFilesystem(program, 'cgroup2', 'cgroup', options, 'mounts');
  program.attach(tree, target);
  program.close(tree);
}

function mountHierarchies(program: Program, input: CreateInput, target: Reg, options: MountOptions): void {
  const { tape } = program;
  const own = hasNewNamespace(input.spec, 'cgroup');
  // Written to below, so read-only only afterwards.
  const tree = newFilesystem(
    program,
    'tmpfs',
    'tmpfs',
    { parameters: [['mode', '755']], attrSet: options.attrSet & ~MOUNT_ATTR_RDONLY },
    'mounts',
  );
  program.attach(tree, target);
  for (const hierarchy of input.cgroups.hierarchies) {
    tape.perform('mkdirat', [tree, hierarchy.folder, 0o755]);
    const place = tape.syscall('openat', [tree, hierarchy.folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
    const view = own
      ? hierarchyView(program, hierarchy, options)
      : hierarchyBind(program, input, hierarchy, options);
    program.attach(view, place);
    program.close(view);
    program.close(place);
    for (const name of hierarchy.controllers) {
      // Mounted together: each name leads to the folder of both.
      if (name !== hierarchy.folder && hierarchy.controllers.length > 1)
        tape.perform('symlinkat', [hierarchy.folder, tree, name]);
    }
  }
  if ((options.attrSet & MOUNT_ATTR_RDONLY) !== 0) program.setAttributes(tree, { set: MOUNT_ATTR_RDONLY });
  program.close(tree);
}

interface Hierarchy {
  /** Name of the folder below /sys/fs/cgroup. */
  folder: string;
  mountPoint: string;
  /** Controllers, or `name=systemd`. */
  controllers: readonly string[];
}

/** In a cgroup namespace of its own the hierarchy's root is the container's cgroup. */
function hierarchyView(program: Program, hierarchy: Hierarchy, options: MountOptions): Reg {
  const { tape } = program;
  const context = tape.syscall('fsopen', ['cgroup', FSOPEN_CLOEXEC]);
  for (const name of hierarchy.controllers) {
    const [key, value] = name.split('=', 2);
    if (value === undefined) tape.perform('fsconfig', [context, FSCONFIG_SET_FLAG, name, 0, 0]);
    else tape.perform('fsconfig', [context, FSCONFIG_SET_STRING, key ?? '', value, 0]);
  }
  tape.perform('fsconfig', [context, FSCONFIG_CMD_CREATE, 0, 0, 0]);
  const attributes = options.attrSet | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  const view = tape.syscall('fsmount', [context, FSMOUNT_CLOEXEC, attributes]);
  program.close(context);
  return view;
}

/** Without one, the container's own folder of the host's hierarchy is bound. */
function hierarchyBind(
  program: Program,
  input: CreateInput,
  hierarchy: Hierarchy,
  options: MountOptions,
): Reg {
  const first = hierarchy.controllers[0] ?? '';
  const directory = input.cgroup.paths[first] ?? hierarchy.mountPoint;
  const view = program.tape.syscall('open_tree', [AT_FDCWD, directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC]);
  program.setAttributes(view, {
    set: options.attrSet | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
  });
  return view;
}
