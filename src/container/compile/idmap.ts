/**
 * Id-mapped mounts (mount_setattr(2), MOUNT_ATTR_IDMAP): the mapping is lent by a user namespace, which a helper holds just
 * long enough for a descriptor of it to be opened.
 */
import { WherryError } from '../../errors.ts';
import {
  __WALL,
  AT_EMPTY_PATH,
  AT_RECURSIVE,
  CLONE_NEWUSER,
  MOUNT_ATTR_IDMAP,
  O_CLOEXEC,
  O_RDONLY,
} from '../../linux/constants.ts';
import { cloneArgs, mountAttr } from '../../linux/structs.ts';
import { fieldOf } from '../../linux/structs-layout.ts';
import type { LinuxIdMapping, Mount, Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import { parseIdMapText } from './id-map-text.ts';
import type { MountOptions } from './mount-options.ts';
import type { Program } from './program.ts';
import { makeGate, mapText, openGate, openProcess, passGate, writeMaps } from './user-namespace.ts';

/** What one mount maps, and whether the mounts below it too. */
export interface IdMap {
  uids: readonly LinuxIdMapping[];
  gids: readonly LinuxIdMapping[];
  recursive: boolean;
}

/** Asked for by the option idmap or ridmap, with mappings in its text or without, or by mappings of the mount's own; undefined: not asked for. */
export function idMapOf(mount: Mount, options: MountOptions, spec: Spec, path: string): IdMap | undefined {
  if (options.idmapText !== undefined) {
    const text = parseIdMapText(options.idmapText, spec, `${path}.options`);
    return { ...text, recursive: options.idmap === 'ridmap' };
  }
  const { uidMappings = [], gidMappings = [] } = mount;
  const own = uidMappings.length > 0 || gidMappings.length > 0;
  if (!own && options.idmap === undefined) return undefined;
  const recursive = options.idmap === 'ridmap';
  if (own) {
    for (const field of ['uidMappings', 'gidMappings'] as const) {
      if ((mount[field] ?? []).length > 0) continue;
      throw new WherryError('invalid-argument', `${path}.${field}: needed beside its twin`, {
        path: `${path}.${field}`,
      });
    }
    return { uids: uidMappings, gids: gidMappings, recursive };
  }
  const uids = spec.linux?.uidMappings ?? [];
  const gids = spec.linux?.gidMappings ?? [];
  if (uids.length === 0 || gids.length === 0) {
    throw new WherryError(
      'invalid-argument',
      `${path}.options: ${options.idmap} needs mappings: the mount's own, or those of the container's user namespace`,
      { path: `${path}.options` },
    );
  }
  return { uids, gids, recursive };
}

/** Descriptors of user namespaces with the mappings of mounts; equal mappings share one. */
export class IdMapNamespaces {
  readonly #known = new Map<string, Reg>();

  /** In a process that may write maps: the player. */
  open(program: Program, map: IdMap, path: string): Reg {
    const key = `${mapText(map.uids)}|${mapText(map.gids)}`;
    let found = this.#known.get(key);
    if (found === undefined) {
      found = makeNamespace(program, map, path);
      this.#known.set(key, found);
    }
    return found;
  }
}

function makeNamespace(program: Program, map: IdMap, path: string): Reg {
  const { tape } = program;
  const gate = makeGate(program);
  program.step(path, 'hold a user namespace with the ids of the mount');
  const args = cloneArgs({ flags: BigInt(CLONE_NEWUSER), exitSignal: 0 });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const parent = tape.label('player');
  const held = tape.label('held');
  tape.jumpIf(pid, -1, 0, held);
  tape.jump(parent);
  tape.place(held);
  tape.lane(2);
  passGate(program, gate);
  tape.halt(0);
  tape.place(parent);
  const process = openProcess(program, pid);
  writeMaps(program, process, [
    { file: 'uid_map', text: mapText(map.uids), field: path },
    { file: 'gid_map', text: mapText(map.gids), field: path },
  ]);
  program.step(path, 'open the user namespace with the ids of the mount');
  const namespace = tape.syscall('openat', [process, 'ns/user', O_RDONLY | O_CLOEXEC, 0]);
  program.close(process);
  openGate(program, gate);
  tape.syscall('wait4', [pid, 0, __WALL, 0]);
  return namespace;
}

/** The tree must be attached nowhere yet (mount_setattr(2)). */
export function applyIdMap(program: Program, tree: Reg, namespace: Reg, recursive: boolean): void {
  const { tape } = program;
  const encoded = mountAttr(MOUNT_ATTR_IDMAP, 0, 0, 0);
  const attributes = tape.struct(encoded);
  tape.store(namespace, attributes.at(...fieldOf('mount_attr', 'userns_fd')), 8);
  tape.syscall('mount_setattr', [
    tree,
    '',
    AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
    attributes,
    encoded.bytes.length,
  ]);
}
