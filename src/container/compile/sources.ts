/**
 * Sources of mounts that must be opened by the player, on the host and with all its rights, before the init is cloned:
 * what is mapped to other ids, and everything of a container in a user namespace, whose root may not even reach the paths.
 */
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MS_SLAVE,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
} from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import { openCopier } from './copy-up.ts';
import { applyIdMap, IdMapNamespaces, idMapOf } from './idmap.ts';
import type { CreateInput } from './input.ts';
import { type MountOptions, parseMountOptions } from './mount-options.ts';
import type { Program } from './program.ts';
import { keepsPeers } from './propagation.ts';
import { inUserNamespace } from './user-namespace.ts';

export interface Sources {
  /** The root filesystem's tree, detached. */
  root?: Reg;
  /** Trees of bind mounts by their index in mounts[]. */
  trees: Map<number, Reg>;
  /** For mounts of other types: user namespaces with their ids, by index. */
  idMaps: Map<number, Reg>;
  /** Of each of mounts[]. */
  options: readonly MountOptions[];
  /** The program that copies, for the option tmpcopyup. */
  copier?: Reg;
}

export function openSources(program: Program, input: CreateInput): Sources {
  const { spec } = input;
  const mounts = spec.mounts ?? [];
  const all = mounts.map(({ options }) => parseMountOptions(options ?? []));
  const sources: Sources = { trees: new Map(), idMaps: new Map(), options: all };
  const namespaces = new IdMapNamespaces();
  const early = inUserNamespace(spec) && input.unprivileged !== true;
  if (early && input.rootfsOverlay === undefined) {
    program.step('root.path', `attach the root filesystem ${input.rootfs}`);
    sources.root = openTree(program, input, input.rootfs, true);
  }
  for (let index = 0; index < mounts.length; index++) {
    const mount = mounts[index]!;
    const options = all[index]!;
    const path = `mounts[${index}]`;
    const idMap = idMapOf(mount, options, spec, path);
    const namespace = idMap === undefined ? undefined : namespaces.open(program, idMap, path);
    if (options.copyUp && input.unprivileged !== true) {
      sources.copier ??= openCopier(program, input.libexec, path);
    }
    if (!options.bind && mount.type !== 'bind') {
      if (namespace !== undefined) sources.idMaps.set(index, namespace);
      continue;
    }
    if (namespace === undefined && !early) continue;
    const source = sourcePath(input, mount.source ?? '');
    program.step(path, `bind ${source} to ${mount.destination}`);
    const tree = openTree(program, input, source, options.recursive);
    if (namespace !== undefined) {
      program.step(path, `map the ids of ${source}`);
      applyIdMap(program, tree, namespace, idMap?.recursive === true);
    }
    sources.trees.set(index, tree);
  }
  return sources;
}

/** Relative sources are relative to the bundle (config.md, "Mounts"). */
export function sourcePath(input: Pick<CreateInput, 'bundle'>, source: string): string {
  return source.startsWith('/') ? source : `${input.bundle}/${source}`;
}

/** A copy made in the host's namespace is a peer of its original: as a slave it tells nothing back. */
function openTree(program: Program, input: CreateInput, source: string, recursive: boolean): Reg {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
  const tree = program.tape.syscall('open_tree', [AT_FDCWD, source, flags]);
  if (!keepsPeers(input.spec)) program.setAttributes(tree, { propagation: MS_SLAVE }, true);
  return tree;
}
