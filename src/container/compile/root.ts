/** The container's root: its filesystem becomes a mount of its own, and later the root of the init. */
import { WherryError } from '../../errors.ts';
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MNT_DETACH,
  MOUNT_ATTR_RDONLY,
  MS_PRIVATE,
  MS_SLAVE,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
} from '../../linux/constants.ts';
import type { Spec } from '../../oci/types.ts';
import type { SyscallOptions } from '../../tape/tape.ts';
import type { RootfsOverlay } from '../types.ts';
import { newFilesystem } from './filesystem.ts';
import { mountView } from './host-view.ts';
import type { CreateInput } from './input.ts';
import { hasMountNamespace } from './namespaces.ts';
import type { Program } from './program.ts';
import { cutOffHost, keepsPeers, propagateRoot } from './propagation.ts';
import type { Sources } from './sources.ts';

/**
 * The root filesystem becomes a mount of its own in the new mount namespace; nothing done to it reaches the host. It is put
 * on top of the host's root, which needs no way to the path it came from.
 */
export function attachRoot(program: Program, input: CreateInput, sources: Sources): void {
  const { tape } = program;
  const { spec } = input;
  if (!hasMountNamespace(spec)) {
    if ((spec.mounts ?? []).length > 0 || spec.process.terminal === true || spec.root.readonly === true) {
      const path = 'linux.namespaces';
      throw new WherryError(
        'invalid-argument',
        `${path}: mounts, a terminal and a read-only root need a mount namespace`,
        {
          path,
          hint: 'add {"type": "mount"}',
        },
      );
    }
    program.step('root.path', `open the root filesystem ${input.rootfs}`);
    tape.syscall('openat', [AT_FDCWD, input.rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC, 0], {
      into: program.root,
    });
    return;
  }
  cutOffHost(program, spec);
  if (sources.root === undefined) {
    const rootfs =
      input.rootfsOverlay === undefined ? input.rootfs : mountOverlay(program, input, input.rootfsOverlay);
    program.step('root.path', `attach the root filesystem ${rootfs}`);
    const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
    tape.syscall('open_tree', [AT_FDCWD, rootfs, flags], { into: program.root });
  } else {
    program.step('root.path', `attach the root filesystem ${input.rootfs}`);
    tape.set(sources.root, program.root);
  }
  // What is mounted inside must not show on the host, whatever the root is to be in the end.
  if (keepsPeers(spec)) program.setAttributes(program.root, { propagation: MS_PRIVATE }, true);
  const place = tape.reg('place');
  const open = (path: string, options: SyscallOptions = {}) =>
    tape.syscall('openat', [AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0], {
      into: place,
      ...options,
    });
  if (hooksLookForIt(spec)) {
    const far = tape.label('no_way_there');
    const opened = tape.label('place_opened');
    open(input.rootfs, { on: { EACCES: far } });
    tape.jump(opened);
    tape.place(far);
    open('/');
    tape.place(opened);
  } else {
    open('/');
  }
  program.attach(program.root, place);
  program.close(place);
}

/**
 * Hooks that enter the mount namespace look for the root by its path of the host, and mount into it (nvidia's do). Where mounts of the
 * host keep their peers it cannot be there: the host would get it too.
 */
function hooksLookForIt(spec: Spec): boolean {
  const { prestart = [], createRuntime = [], createContainer = [] } = spec.hooks ?? {};
  return prestart.length + createRuntime.length + createContainer.length > 0 && !keepsPeers(spec);
}

/** A tmpfs over the (empty) rootfs folder holds the changes; the view lies in it. Returns its path. */
function mountOverlay(program: Program, input: CreateInput, { lower, entries }: RootfsOverlay): string {
  const { tape } = program;
  program.step('root.path', `lay a copy-on-write view over ${lower}`);
  const parameters: [string, string][] = [['mode', '755']];
  const changes = newFilesystem(program, 'tmpfs', 'tmpfs', { parameters, attrSet: 0 }, 'root.path');
  const place = tape.syscall('openat', [AT_FDCWD, input.rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
  program.attach(changes, place);
  const view = { changes, path: input.rootfs, lower, userAttributes: entries !== undefined };
  const merged = mountView(program, view, entries);
  program.close(changes);
  program.close(place);
  return merged;
}

/** pivot_root(2) with both arguments ".": the old root lands on top of the new one and is detached. */
export function enterRoot(program: Program, input: CreateInput): void {
  const { tape } = program;
  const { spec } = input;
  if (spec.root.readonly === true) {
    program.step('root.readonly', 'make the root filesystem read-only');
    program.setAttributes(program.root, { set: MOUNT_ATTR_RDONLY });
  }
  program.step('root.path', 'make it the root');
  tape.perform('fchdir', [program.root]);
  if (!hasMountNamespace(spec)) {
    tape.perform('chroot', ['.']);
  } else if (input.noPivotRoot === true) {
    if (hooksLookForIt(spec)) {
      const top = tape.syscall('openat', [AT_FDCWD, '/', O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
      // It is there already where there was no way to its path.
      const there = tape.label('on_top');
      program.attach(program.root, top, { on: { EINVAL: there, ELOOP: there } });
      tape.place(there);
      program.close(top);
    }
    tape.perform('chroot', ['.']);
  } else {
    const peers = keepsPeers(spec);
    const host = peers
      ? tape.syscall('openat', [AT_FDCWD, '/', O_PATH | O_DIRECTORY | O_CLOEXEC, 0])
      : undefined;
    tape.perform('pivot_root', ['.', '.']);
    // What goes away here must not go away on the host.
    if (host !== undefined) program.setAttributes(host, { propagation: MS_SLAVE }, true);
    tape.perform('umount2', ['.', MNT_DETACH]);
    if (host !== undefined) program.close(host);
  }
  tape.perform('chdir', ['/']);
  propagateRoot(program, spec);
}
