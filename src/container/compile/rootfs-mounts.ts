/**
 * containerd's mounts of a root filesystem, in order, onto <bundle>/rootfs or a folder below it: made by the player, seen on the host,
 * and taken away at delete (remove.ts). Options are those of containerd's own mount code, which is built on mount(2).
 */
import { WherryError } from '../../errors.ts';
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MNT_DETACH,
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
  UMOUNT_NOFOLLOW,
} from '../../linux/constants.ts';
import type { LinuxIdMapping } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { MountSpec } from '../types.ts';
import { newFilesystem } from './filesystem.ts';
import { applyIdMap, IdMapNamespaces } from './idmap.ts';
import { openLoopDevice } from './loop-device.ts';
import { descriptorPath, mountByText } from './mount-by-text.ts';
import { type MountOptions, parseMountOptions } from './mount-options.ts';
import { setPropagation } from './mounts.ts';
import { mappedOverlay } from './overlay-idmap.ts';
import { components, type Program } from './program.ts';

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
const noFlags = new Set(
  'rw suid dev exec async nomand atime diratime norelatime nostrictatime defaults'.split(' '),
);
/** Words that say how to mount, and are no option of the filesystem. */
const handled = /^(loop|direct-io|[ug]idmap=.*|r?(private|shared|slave|unbindable))$/s;

export function mountRootfs(
  program: Program,
  mounts: readonly MountSpec[],
  onto: string,
  field: string,
): void {
  const { tape } = program;
  const namespaces = new IdMapNamespaces();
  mounts.forEach((mount, index) => {
    const path = `${field}[${index}]`;
    checkWords(mount, path);
    const maps = mapsOf(mount, path);
    const namespace = maps === undefined ? undefined : namespaces.open(program, maps, path);
    const place = components(mount.target).join('/');
    program.step(path, `mount ${mount.type} ${mount.source} on ${place === '' ? onto : `${onto}/${place}`}`);
    const there = tape.label('there');
    tape.syscall('mkdirat', [AT_FDCWD, onto, 0o711], { on: { EEXIST: there } });
    tape.place(there);
    const target = openTarget(program, onto, place);
    mountOne(program, mount, { onto, target, namespace, path });
    program.close(target);
  });
}

/** Takes them away again, the last one first. Those below the root go lazily: the descriptor that names them keeps them busy. */
export function unmountRootfs(program: Program, targets: readonly string[], onto: string): void {
  const { tape } = program;
  program.step('rootfs', `unmount ${onto}`);
  for (const target of [...targets].reverse()) {
    const place = components(target).join('/');
    const clear = tape.label('clear');
    if (place === '') {
      // EINVAL: nothing is mounted there any more.
      tape.syscall('umount2', [onto, UMOUNT_NOFOLLOW], { on: { EINVAL: clear, ENOENT: clear } });
      tape.place(clear);
      continue;
    }
    const root = tape.syscall('openat', [AT_FDCWD, onto, O_PATH | O_DIRECTORY | O_CLOEXEC, 0], {
      on: { ENOENT: clear },
    });
    const absent = tape.label('absent');
    const below = program.openInRoot(root, place, O_PATH, { on: { any: absent } });
    const gone = tape.label('gone');
    tape.syscall('umount2', [descriptorPath(program, below), MNT_DETACH], { on: { EINVAL: gone } });
    tape.place(gone);
    program.close(below);
    tape.place(absent);
    // A descriptor of the root would keep it busy for its own turn.
    program.close(root);
    tape.place(clear);
  }
}

function openTarget(program: Program, onto: string, place: string): Reg {
  const { tape } = program;
  const root = tape.syscall('openat', [AT_FDCWD, onto, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
  if (place === '') return root;
  const target = program.openInRoot(root, place, O_PATH);
  program.close(root);
  return target;
}

function mountOne(
  program: Program,
  mount: MountSpec,
  { onto, target, namespace, path }: { onto: string; target: Reg; namespace: Reg | undefined; path: string },
): void {
  const { tape } = program;
  const options = parseMountOptions(mount.options);
  const attachTree = (tree: Reg): void => {
    program.attach(tree, target);
    setPropagation(program, tree, options);
    program.close(tree);
  };
  if (options.bind || mount.type === 'bind') {
    const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
    const tree = tape.syscall('open_tree', [AT_FDCWD, mount.source, flags]);
    if (namespace !== undefined) applyIdMap(program, tree, namespace, options.recursive);
    if (options.attrSet !== 0 || options.attrClear !== 0) {
      program.setAttributes(tree, { set: options.attrSet, clear: options.attrClear });
    }
    attachTree(tree);
    return;
  }
  const readonly = mount.options.includes('ro');
  const direct = mount.options.includes('direct-io');
  const loop = mount.options.includes('loop')
    ? openLoopDevice(program, mount.source, { readonly, direct, path })
    : undefined;
  let flags = 0;
  const words: string[] = [];
  for (const option of mount.options) {
    const flag = Object.hasOwn(mountFlags, option) ? mountFlags[option] : undefined;
    if (flag !== undefined) flags |= flag;
    else if (!noFlags.has(option) && !handled.test(option)) words.push(option);
  }
  if (namespace !== undefined && mount.type === 'overlay') {
    attachTree(mappedOverlay(program, { words, flags, namespace, onto, path }));
  } else if (namespace !== undefined) {
    const source = loop === undefined ? mount.source : loop.path;
    const tree = newFilesystem(program, mount.type, source, readonlySource(options, readonly), path);
    applyIdMap(program, tree, namespace, false);
    attachTree(tree);
  } else {
    const source = loop === undefined ? mount.source : loop.path;
    mountByText(program, { type: mount.type, source, target, flags, words, path });
    if (options.propagation.length > 0) {
      const top = openTarget(program, onto, components(mount.target).join('/'));
      setPropagation(program, top, options);
      program.close(top);
    }
  }
  if (loop !== undefined) program.close(loop.held);
}

/** A read-only device takes a read-only filesystem only. */
function readonlySource(options: MountOptions, readonly: boolean): MountOptions {
  const parameters = options.parameters.filter(([name]) => !handled.test(name) && !/^[ug]idmap$/.test(name));
  return { ...options, parameters: readonly ? [...parameters, ['ro', undefined]] : parameters };
}

function checkWords(mount: MountSpec, path: string): void {
  const foreign = mount.options.find((option) => option.startsWith('X-containerd.'));
  if (foreign === undefined) return;
  throw new WherryError(
    'invalid-argument',
    `${path}.options: ${foreign} is for containerd's mount manager, which has not taken it out`,
    { path: `${path}.options` },
  );
}

/** `uidmap=0:100000:65536,70000:1000:1`: id of the container, of the host, how many. Both lists or none. */
function mapsOf(
  mount: MountSpec,
  path: string,
): { uids: LinuxIdMapping[]; gids: LinuxIdMapping[]; recursive: boolean } | undefined {
  const read = (name: string): LinuxIdMapping[] | undefined => {
    const option = mount.options.find((word) => word.startsWith(`${name}=`));
    return option
      ?.slice(name.length + 1)
      .split(',')
      .map((range) => {
        const numbers = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(range)?.slice(1).map(Number);
        const [containerID = 0, hostID = 0, size = 0] = numbers ?? [];
        if (size === 0) throw wrong(range);
        return { containerID, hostID, size };
      });
  };
  const wrong = (text: string): WherryError =>
    new WherryError('invalid-argument', `${path}.options: ${JSON.stringify(text)} is no mapping of ids`, {
      path: `${path}.options`,
      hint: 'write uidmap=CONTAINER:HOST:COUNT and gidmap=CONTAINER:HOST:COUNT, several ranges with commas',
    });
  const uids = read('uidmap');
  const gids = read('gidmap');
  if (uids === undefined && gids === undefined) return undefined;
  if (uids === undefined || gids === undefined) throw wrong(uids === undefined ? 'gidmap' : 'uidmap');
  return { uids, gids, recursive: false };
}
