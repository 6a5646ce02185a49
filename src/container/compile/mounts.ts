/** mounts[] of config.json: each one detached first, then attached at a descriptor of its place in the root. */
import { WherryError } from '../../errors.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MOUNT_ATTR_RDONLY,
  MS_REC,
  O_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFMT,
  STATX_TYPE,
} from '../../linux/constants.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Mount } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import { mountCgroups } from './cgroup-mount.ts';
import { copyUp, keepMode, openCopier } from './copy-up.ts';
import { needsText, newFilesystem } from './filesystem.ts';
import { applyIdMap } from './idmap.ts';
import type { CreateInput } from './input.ts';
import { mountByText } from './mount-by-text.ts';
import { labelQueues, withLabel } from './mount-label.ts';
import type { MountOptions } from './mount-options.ts';
import { type Program, relative } from './program.ts';
import { type Sources, sourcePath } from './sources.ts';

/** What may be mounted over a file of procfs: files that lxcfs and the like replace (CVE-2019-16884 and its kin). */
const procAllowed = new Set([
  'proc/cpuinfo',
  'proc/diskstats',
  'proc/meminfo',
  'proc/stat',
  'proc/swaps',
  'proc/uptime',
  'proc/loadavg',
  'proc/slabinfo',
  'proc/net/dev',
  'proc/sys/kernel/ns_last_pid',
  'proc/sys/crypto/fips_enabled',
]);

/** Every part of the path is a folder, not a symlink to one. */
const PLAIN = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;

export function compileMounts(program: Program, input: CreateInput, sources: Sources): void {
  const mounts = input.spec.mounts ?? [];
  for (let index = 0; index < mounts.length; index++) {
    compileMount(program, input, mounts[index]!, index, sources);
  }
}

function compileMount(
  program: Program,
  input: CreateInput,
  mount: Mount,
  index: number,
  sources: Sources,
): void {
  const path = `mounts[${index}]`;
  const given = sources.options[index]!;
  const place = relative(mount.destination);
  const type = mount.type ?? (given.bind ? 'bind' : '');
  const binds = given.bind || type === 'bind';
  const parameters = binds ? given.parameters : withLabel(input.spec, type, given.parameters);
  const options = parameters === given.parameters ? given : { ...given, parameters };
  checkPlace(place, type, path);
  if (options.copyUp && type !== 'tmpfs') {
    throw new WherryError('invalid-argument', `${path}.options: tmpcopyup is for a tmpfs only`, {
      path: `${path}.options`,
    });
  }
  if (binds) {
    bindMount(program, input, mount, options, path, sources.trees.get(index));
  } else if (type === 'cgroup' || type === 'cgroup2') {
    program.step(path, `mount the cgroup tree on ${mount.destination}`);
    mountCgroups(program, input, program.ensure(program.root, mount.destination, 'folder'), options);
  } else {
    program.step(path, `mount ${type} on ${mount.destination}`);
    // What writes to them and masks them later must find them where they belong (CVE-2019-19921, CVE-2023-27561).
    const resolve = place === 'proc' || place === 'sys' ? PLAIN : undefined;
    if (needsText(options)) {
      mountWithText(program, mount, type, options, path);
      return;
    }
    const namesMode = type !== 'tmpfs' || options.parameters.some(([name]) => name === 'mode');
    const setMode = namesMode ? undefined : keepMode(program, mount.destination);
    const target = program.ensure(program.root, mount.destination, 'folder', resolve);
    // While it is filled it is writable.
    const attrSet = options.attrSet & ~(setMode || options.copyUp ? MOUNT_ATTR_RDONLY : 0);
    const tree = newFilesystem(program, type, mount.source ?? type, { parameters, attrSet }, path);
    setMode?.(tree);
    if (options.copyUp) {
      const copier = sources.copier ?? openCopier(program, input.libexec, path);
      copyUp(program, copier, mount.destination, tree, path);
    }
    if (attrSet !== options.attrSet) program.setAttributes(tree, { set: MOUNT_ATTR_RDONLY });
    labelQueues(program, input.spec, type, tree);
    const idMap = sources.idMaps.get(index);
    if (idMap !== undefined) applyIdMap(program, tree, idMap, false);
    setTreeAttributes(program, tree, options);
    program.attach(tree, target);
    setPropagation(program, tree, options);
    program.close(tree);
    program.close(target);
  }
}

export function checkPlace(place: string, type: string, path: string): void {
  if (place === 'proc' && type !== 'proc' && type !== 'bind') {
    throw new WherryError('invalid-argument', `${path}.destination: only procfs may be mounted on /proc`, {
      path: `${path}.destination`,
    });
  }
  if (place.startsWith('proc/') && type !== 'proc' && !procAllowed.has(place)) {
    throw new WherryError(
      'invalid-argument',
      `${path}.destination: /${place} is inside procfs and cannot be mounted over`,
      {
        path: `${path}.destination`,
      },
    );
  }
}

/** Attached first and given its attributes then: mount(2) makes no mount that is nowhere yet. */
function mountWithText(
  program: Program,
  mount: Mount,
  type: string,
  options: MountOptions,
  path: string,
): void {
  if (options.idmap !== undefined || (mount.uidMappings ?? []).length > 0 || options.copyUp) {
    throw new WherryError(
      'invalid-argument',
      `${path}.options: an option of more than 255 bytes goes neither with mapped ids nor with tmpcopyup`,
      { path: `${path}.options` },
    );
  }
  const target = program.ensure(program.root, mount.destination, 'folder');
  const words = options.parameters.map(([name, value]) => (value === undefined ? name : `${name}=${value}`));
  mountByText(program, { type, source: mount.source ?? type, target, flags: 0, words, path });
  program.close(target);
  const tree = program.openInRoot(program.root, mount.destination, O_PATH);
  if (options.attrSet !== 0) program.setAttributes(tree, { set: options.attrSet });
  setTreeAttributes(program, tree, options);
  setPropagation(program, tree, options);
  program.close(tree);
}

export function setTreeAttributes(program: Program, tree: Reg, { treeSet, treeClear }: MountOptions): void {
  if (treeSet !== 0 || treeClear !== 0) program.setAttributes(tree, { set: treeSet, clear: treeClear }, true);
}

/** mount_setattr says with AT_RECURSIVE what mount(2) says with MS_REC. */
export function setPropagation(program: Program, tree: Reg, options: MountOptions): void {
  for (const flags of options.propagation) {
    const recursive = (flags & MS_REC) !== 0;
    program.setAttributes(tree, { propagation: flags & ~MS_REC }, recursive);
  }
}

function bindMount(
  program: Program,
  input: CreateInput,
  mount: Mount,
  options: MountOptions,
  path: string,
  opened: Reg | undefined,
): void {
  const { tape } = program;
  if (mount.source === undefined || mount.source === '') {
    throw new WherryError('invalid-argument', `${path}.source: a bind mount needs a source`, {
      path: `${path}.source`,
    });
  }
  if (options.parameters.length > 0) {
    const [name] = options.parameters[0] ?? [''];
    throw new WherryError('invalid-argument', `${path}.options: ${name} means nothing for a bind mount`, {
      path: `${path}.options`,
    });
  }
  const source = sourcePath(input, mount.source);
  program.step(path, `bind ${source} to ${mount.destination}`);
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
  const tree = opened ?? tape.syscall('open_tree', [AT_FDCWD, source, flags]);
  const target = ensureLike(program, tree, mount.destination);
  if (options.attrSet !== 0 || options.attrClear !== 0) {
    program.setAttributes(tree, { set: options.attrSet, clear: options.attrClear });
  }
  setTreeAttributes(program, tree, options);
  program.attach(tree, target);
  setPropagation(program, tree, options);
  program.close(tree);
  program.close(target);
}

/** The mount's place, made as a folder or as a file: whichever the source turns out to be. */
export function ensureLike(program: Program, source: Reg, destination: string): Reg {
  const { tape } = program;
  const stat = tape.space(sizeOf('statx'));
  tape.perform('statx', [source, '', AT_EMPTY_PATH, STATX_TYPE, stat]);
  const mode = tape.load(stat.at(fieldOf('statx', 'stx_mode')[0], 4), 4);
  const folder = tape.label('folder');
  const done = tape.label('placed');
  const target = tape.reg('target');
  tape.jumpIf(mode, S_IFMT, S_IFDIR, folder);
  tape.set(program.ensure(program.root, destination, 'file'), target);
  tape.jump(done);
  tape.place(folder);
  tape.set(program.ensure(program.root, destination, 'folder'), target);
  tape.place(done);
  return target;
}
