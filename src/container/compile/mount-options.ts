/**
 * fstab-like options of config.json and of containerd's rootfs mounts, sorted into what the mount API takes:
 * attributes of the mount (mount_setattr(2)), propagation, parameters of the filesystem (fsconfig(2)).
 */
import {
  MOUNT_ATTR__ATIME,
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_STRICTATIME,
  MS_PRIVATE,
  MS_REC,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
} from '../../linux/constants.ts';

export interface MountOptions {
  bind: boolean;
  /** rbind: with everything that is mounted below the source. */
  recursive: boolean;
  attrSet: number;
  attrClear: number;
  /** The same for the whole tree: rro, rnosuid and so on. */
  treeSet: number;
  treeClear: number;
  idmap?: 'idmap' | 'ridmap';
  /** Mappings in the option's own text: `uids=0-1000-10;gids=0-1000-10` (id-map-text.ts). */
  idmapText?: string;
  /** MS_SHARED and so on with MS_REC, in the order given; mount_setattr takes one at a time. */
  propagation: number[];
  /** Filesystem parameters: ['mode', '755'], ['ro', undefined]. */
  parameters: [string, string | undefined][];
  /** tmpcopyup: a tmpfs begins with what the image has there. */
  copyUp: boolean;
}

/** Option → [bits set, bits cleared]. MOUNT_ATTR_RELATIME is 0 within MOUNT_ATTR__ATIME. */
const attributes = table<readonly [number, number]>({
  ro: [MOUNT_ATTR_RDONLY, 0],
  rw: [0, MOUNT_ATTR_RDONLY],
  nosuid: [MOUNT_ATTR_NOSUID, 0],
  suid: [0, MOUNT_ATTR_NOSUID],
  nodev: [MOUNT_ATTR_NODEV, 0],
  dev: [0, MOUNT_ATTR_NODEV],
  noexec: [MOUNT_ATTR_NOEXEC, 0],
  exec: [0, MOUNT_ATTR_NOEXEC],
  noatime: [MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME],
  atime: [0, MOUNT_ATTR__ATIME],
  relatime: [0, MOUNT_ATTR__ATIME],
  norelatime: [MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME],
  strictatime: [MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME],
  nostrictatime: [0, MOUNT_ATTR__ATIME],
  nodiratime: [MOUNT_ATTR_NODIRATIME, 0],
  diratime: [0, MOUNT_ATTR_NODIRATIME],
  nosymfollow: [MOUNT_ATTR_NOSYMFOLLOW, 0],
  symfollow: [0, MOUNT_ATTR_NOSYMFOLLOW],
});

const propagations = table<number>({
  private: MS_PRIVATE,
  rprivate: MS_PRIVATE | MS_REC,
  shared: MS_SHARED,
  rshared: MS_SHARED | MS_REC,
  slave: MS_SLAVE,
  rslave: MS_SLAVE | MS_REC,
  unbindable: MS_UNBINDABLE,
  runbindable: MS_UNBINDABLE | MS_REC,
});

/** Flags of the filesystem rather than of the mount: fsconfig(FSCONFIG_SET_FLAG). The undoing words are the default. */
const filesystemFlags = table<string | undefined>({
  sync: 'sync',
  async: undefined,
  dirsync: 'dirsync',
  mand: 'mand',
  nomand: undefined,
  lazytime: 'lazytime',
  nolazytime: undefined,
  silent: undefined,
  loud: undefined,
  defaults: undefined,
  remount: undefined,
  iversion: undefined,
  noiversion: undefined,
});

function table<T>(entries: Record<string, T>): ReadonlyMap<string, T> {
  return new Map(Object.entries(entries));
}

export function parseMountOptions(options: readonly string[]): MountOptions {
  const parsed: MountOptions = {
    bind: false,
    recursive: false,
    attrSet: 0,
    attrClear: 0,
    treeSet: 0,
    treeClear: 0,
    propagation: [],
    parameters: [],
    copyUp: false,
  };
  for (let index = 0; index < options.length; index++) parseOption(options[index]!, parsed);
  return parsed;
}

function parseOption(option: string, parsed: MountOptions): void {
  const attribute = attributes.get(option);
  if (attribute !== undefined) {
    const set = attribute[0];
    const clear = attribute[1];
    // The last word wins, as with mount(8).
    parsed.attrSet = (parsed.attrSet & ~clear) | set;
    parsed.attrClear = (parsed.attrClear & ~set) | clear;
    return;
  }
  const equals = option.indexOf('=');
  if (equals < 0 && parseWord(option, parsed)) return;
  if (option.startsWith('idmap=') || option.startsWith('ridmap=')) {
    parsed.idmap = option.startsWith('r') ? 'ridmap' : 'idmap';
    parsed.idmapText = option.slice(equals + 1);
  } else if (option !== '') {
    parsed.parameters.push(
      equals < 0 ? [option, undefined] : [option.slice(0, equals), option.slice(equals + 1)],
    );
  }
}

/** One without a value that is no parameter of the filesystem, or is one that it has under another name. */
function parseWord(option: string, parsed: MountOptions): boolean {
  // mount_setattr(2) has one for each attribute that applies to the mounts below, too.
  const tree = option.startsWith('r') ? attributes.get(option.slice(1)) : undefined;
  const propagation = propagations.get(option);
  if (option === 'bind' || option === 'rbind') {
    parsed.bind = true;
    parsed.recursive = option === 'rbind';
  } else if (tree !== undefined) {
    const [set, clear] = tree;
    parsed.treeSet = (parsed.treeSet & ~clear) | set;
    parsed.treeClear = (parsed.treeClear & ~set) | clear;
  } else if (option === 'idmap' || option === 'ridmap') {
    parsed.idmap = option;
  } else if (propagation !== undefined) {
    parsed.propagation.push(propagation);
  } else if (filesystemFlags.has(option)) {
    const name = filesystemFlags.get(option);
    if (name !== undefined) parsed.parameters.push([name, undefined]);
  } else if (option === 'tmpcopyup') {
    parsed.copyUp = true;
  } else return false;
  return true;
}
