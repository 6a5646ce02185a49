/**
 * Mounts of a container that runs already: the player makes them where nobody can see them, enters the container's mount namespace
 * and attaches them below its root (open_tree(2), move_mount(2), setns(2)). Taking them away again is a tape of its own.
 */
import { WherryError } from '../../errors.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  CLONE_NEWNS,
  CLONE_NEWUSER,
  MNT_DETACH,
  MS_PRIVATE,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  STATX_ATTR_MOUNT_ROOT,
  STATX_MNT_ID,
} from '../../linux/constants.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Mount } from '../../oci/types.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import type { Reg } from '../../tape/refs.ts';
import { findInit } from './exec.ts';
import { needsText, newFilesystem } from './filesystem.ts';
import { resetProcess } from './host.ts';
import { hideFromOthers } from './init.ts';
import { type MountOptions, parseMountOptions } from './mount-options.ts';
import { checkPlace, ensureLike, setPropagation, setTreeAttributes } from './mounts.ts';
import { components, Program } from './program.ts';
import { becomeMappedRoot } from './user-namespace.ts';

export interface LiveMountsTarget {
  /** As keel knows it; inode 0: pidfds have none of their own. */
  init: { pid: number; pidfdInode: bigint };
  /** The container has a user namespace of its own. */
  userNamespace: boolean;
  /** Whoever plays is an ordinary user: it may mount only as root of the container's user namespace. */
  unprivileged: boolean;
}

export interface Attached {
  destination: string;
  /** Of statx(2); 0: not known. */
  mountId: bigint;
}

/** Result slots from here on: of an add the ids of the mounts, of a removal 1 for each that is gone. */
export const FIRST_LIVE_SLOT = 1;
/** As many as there are slots for in one play. */
export const MAX_LIVE_MOUNTS = 32;
/** Descriptor by which the one to unmount is named. */
const UNMOUNTED_FD = 200;

interface Planned {
  mount: Mount;
  path: string;
  binds: boolean;
  options: MountOptions;
}

/** invalid-argument and unimplemented for what cannot be added. Sources are absolute. */
export function compileAddMounts(target: LiveMountsTarget, mounts: readonly Mount[]): AssembledTape {
  const planned = mounts.map(plan);
  const program = new Program();
  const { tape } = program;
  resetProcess(program);
  const init = findInit(program, target.init);
  const openTrees = () => planned.map((one) => (one.binds ? openSource(program, one) : undefined));
  let trees: (Reg | undefined)[] = target.unprivileged ? [] : openTrees();
  hideFromOthers(program);
  if (target.unprivileged) {
    enterUserNamespace(program, init);
    // A copy of the host's mounts that this root may copy from.
    tape.syscall('unshare', [CLONE_NEWNS]);
    trees = openTrees();
  }
  enter(program, target, init);
  planned.forEach((one, index) => {
    const { mount, path, options } = one;
    program.step(path, `mount ${mount.destination}`);
    const tree = trees[index] ?? newFilesystem(program, 'tmpfs', mount.source ?? 'tmpfs', options, path);
    const place = ensureLike(program, tree, mount.destination);
    if (one.binds && (options.attrSet !== 0 || options.attrClear !== 0)) {
      program.setAttributes(tree, { set: options.attrSet, clear: options.attrClear });
    }
    setTreeAttributes(program, tree, options);
    program.attach(tree, place);
    const id = statMount(program, tree).id;
    tape.store(id, tape.slot(FIRST_LIVE_SLOT + index), 8);
    setPropagation(program, tree, options);
    program.close(tree);
    program.close(place);
  });
  tape.halt(0);
  return tape.assemble();
}

/** In this order. EBUSY: something else is mounted at the place. What is not there any more counts as removed. */
export function compileRemoveMounts(target: LiveMountsTarget, mounts: readonly Attached[]): AssembledTape {
  const program = new Program();
  const { tape } = program;
  resetProcess(program);
  const init = findInit(program, target.init);
  program.step('', 'open the folder of descriptors');
  // The host's: the container's /proc may be none. umount2(2) takes no descriptor, but a link to one.
  const descriptors = tape.syscall('openat', [
    AT_FDCWD,
    '/proc/self/fd',
    O_PATH | O_DIRECTORY | O_CLOEXEC,
    0,
  ]);
  hideFromOthers(program);
  if (target.unprivileged) enterUserNamespace(program, init);
  enter(program, target, init);
  tape.syscall('fchdir', [descriptors]);
  mounts.forEach(({ destination, mountId }, index) => {
    program.step('mounts', `unmount ${destination}`);
    const gone = tape.label('gone');
    const found = tape.label('found');
    const place = program.openInRoot(program.root, destination, O_PATH, {
      on: { ENOENT: gone, ENOTDIR: gone },
    });
    const { id, attributes } = statMount(program, place);
    if (mountId !== 0n) tape.jumpIfEqual(id, mountId, found);
    tape.jumpIf(attributes, STATX_ATTR_MOUNT_ROOT, 0, gone);
    if (mountId !== 0n) tape.fail('EBUSY');
    tape.place(found);
    tape.syscall('dup3', [place, UNMOUNTED_FD, O_CLOEXEC]);
    program.close(place);
    tape.syscall('umount2', [String(UNMOUNTED_FD), MNT_DETACH]);
    tape.place(gone);
    tape.store(tape.set(1), tape.slot(FIRST_LIVE_SLOT + index), 8);
  });
  tape.halt(0);
  return tape.assemble();
}

function plan(mount: Mount, index: number): Planned {
  const path = `mounts[${index}]`;
  const refuse = (kind: 'unimplemented' | 'invalid-argument', field: string, what: string): never => {
    throw new WherryError(kind, `${path}.${field}: ${what}`, { path: `${path}.${field}` });
  };
  const options = parseMountOptions(mount.options ?? []);
  const type = mount.type ?? (options.bind ? 'bind' : '');
  const binds = options.bind || type === 'bind';
  const place = components(mount.destination).join('/');
  if (place === '')
    refuse('invalid-argument', 'destination', 'nothing is mounted over the root of a running container');
  checkPlace(place, type, path);
  if (!binds && type !== 'tmpfs')
    refuse(
      'unimplemented',
      'type',
      `a running container gets bind and tmpfs mounts only, not ${JSON.stringify(type)}`,
    );
  if (options.idmap !== undefined || (mount.uidMappings ?? []).length > 0)
    refuse('unimplemented', 'options', 'mapped ids cannot be given to a running container');
  if (options.copyUp) refuse('unimplemented', 'options', 'tmpcopyup cannot be given to a running container');
  if (needsText(options)) refuse('invalid-argument', 'options', 'an option has more than 255 bytes');
  if (binds && (mount.source ?? '') === '')
    refuse('invalid-argument', 'source', 'a bind mount needs a source');
  if (binds && !(mount.source ?? '').startsWith('/'))
    refuse('invalid-argument', 'source', 'must be an absolute path');
  const [name] = options.parameters[0] ?? [];
  if (binds && name !== undefined)
    refuse('invalid-argument', 'options', `${name} means nothing for a bind mount`);
  return { mount: { ...mount, destination: `/${place}` }, path, binds, options };
}

function openSource(program: Program, { mount, path, options }: Planned): Reg {
  program.step(path, `bind ${mount.source} to ${mount.destination}`);
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
  const tree = program.tape.syscall('open_tree', [AT_FDCWD, mount.source ?? '', flags]);
  // A copy is a peer of its original: what is mounted on the one would show on the other.
  if (options.propagation.length === 0) program.setAttributes(tree, { propagation: MS_PRIVATE }, true);
  return tree;
}

function enterUserNamespace(program: Program, init: Reg): void {
  program.step('', "enter the container's user namespace");
  program.tape.syscall('setns', [init, CLONE_NEWUSER]);
}

function enter(program: Program, target: LiveMountsTarget, init: Reg): void {
  const { tape } = program;
  const { userNamespace, unprivileged } = target;
  program.step('', "enter the container's mount namespace");
  // A user namespace is never entered twice, and an ordinary user is in it already.
  tape.syscall('setns', [init, CLONE_NEWNS | (userNamespace && !unprivileged ? CLONE_NEWUSER : 0)]);
  if (userNamespace) becomeMappedRoot(program);
  program.step('', "open the container's root");
  tape.syscall('openat', [AT_FDCWD, '/', O_PATH | O_DIRECTORY | O_CLOEXEC, 0], { into: program.root });
}

function statMount(program: Program, descriptor: Reg): { id: Reg; attributes: Reg } {
  const { tape } = program;
  const stat = tape.space(sizeOf('statx'));
  tape.syscall('statx', [descriptor, '', AT_EMPTY_PATH, STATX_MNT_ID, stat]);
  return {
    id: tape.load(stat.at(fieldOf('statx', 'stx_mnt_id')[0], 8), 8),
    attributes: tape.load(stat.at(fieldOf('statx', 'stx_attributes')[0], 8), 8),
  };
}
