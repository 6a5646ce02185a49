/**
 * An overlay whose lower layers are shown with other ids (uidmap= and gidmap= of containerd). Each layer gets an id-mapped mount, and
 * overlayfs finds layers by path, so those mounts need places: a helper has them in a mount namespace of its own and leaves nothing but
 * the finished overlay, by a descriptor in the table that it shares with the player.
 */
import {
  __WALL,
  AT_FDCWD,
  AT_RECURSIVE,
  CLONE_FILES,
  CLONE_NEWNS,
  MOUNT_ATTR_RDONLY,
  MS_PRIVATE,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  SIGCHLD,
} from '../../linux/constants.ts';
import { cloneArgs, mountAttr } from '../../linux/structs.ts';
import type { Reg } from '../../tape/refs.ts';
import { newFilesystem } from './filesystem.ts';
import { applyIdMap } from './idmap.ts';
import { plainPath, splitLayers } from './overlay-text.ts';
import type { Program } from './program.ts';

/** Result slot for the overlay's descriptor. */
const TREE_SLOT = 2;
const HELPER_LANE = 3;
const HELPER_FAILED = 1;

/**
 * @param namespace a user namespace with the ids
 * @param onto an existing folder, only used inside the helper
 * @returns the overlay, attached nowhere
 */
export function mappedOverlay(
  program: Program,
  overlay: { words: readonly string[]; flags: number; namespace: Reg; onto: string; path: string },
): Reg {
  const { tape } = program;
  const { words, namespace, onto, path } = overlay;
  program.step(path, 'start a helper that lays the overlay over layers with mapped ids');
  const args = cloneArgs({ flags: BigInt(CLONE_NEWNS) | BigInt(CLONE_FILES), exitSignal: SIGCHLD });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const helper = tape.label('helper');
  const parent = tape.label('player');
  tape.jumpIfEqual(pid, 0, helper);
  tape.jump(parent);

  tape.place(helper);
  tape.lane(HELPER_LANE);
  const alone = mountAttr(0, 0, MS_PRIVATE);
  tape.syscall('mount_setattr', [AT_FDCWD, '/', AT_RECURSIVE, tape.struct(alone), alone.bytes.length]);
  const places = newFilesystem(program, 'tmpfs', 'tmpfs', { parameters: [], attrSet: 0 }, path);
  const place = tape.syscall('openat', [AT_FDCWD, onto, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
  program.attach(places, place);
  const names: string[] = [];
  for (const layer of splitLayers(words.find((word) => word.startsWith('lowerdir='))?.slice(9) ?? '')) {
    const name = layer === '' ? '' : String(names.length);
    names.push(name);
    if (layer === '') continue;
    program.step(path, `map the ids of ${layer}`);
    const tree = tape.syscall('open_tree', [AT_FDCWD, plainPath(layer), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC]);
    applyIdMap(program, tree, namespace, false);
    program.setAttributes(tree, { set: MOUNT_ATTR_RDONLY, propagation: MS_PRIVATE });
    tape.syscall('mkdirat', [places, name, 0o700]);
    const folder = tape.syscall('openat', [places, name, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
    program.attach(tree, folder);
    for (const descriptor of [tree, folder]) program.close(descriptor);
  }
  program.step(path, 'lay the overlay over the mapped layers');
  tape.syscall('mkdirat', [places, 'merged', 0o700]);
  tape.syscall('fchdir', [places]);
  const text = words.map((word) => (word.startsWith('lowerdir=') ? `lowerdir=${names.join(':')}` : word));
  tape.syscall('mount', ['overlay', 'merged', 'overlay', overlay.flags, text.join(',')]);
  const merged = tape.syscall('open_tree', [places, 'merged', OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC]);
  tape.store(merged, tape.slot(TREE_SLOT), 8);
  tape.halt(0);

  tape.place(parent);
  program.step(path, 'take the overlay from the helper');
  const status = tape.space(8);
  tape.syscall('wait4', [pid, status, __WALL, 0]);
  const done = tape.label('laid');
  tape.jumpIfEqual(tape.load(status.at(0, 4), 4), 0, done);
  tape.halt(HELPER_FAILED);
  tape.place(done);
  return tape.load(tape.slot(TREE_SLOT), 4);
}
