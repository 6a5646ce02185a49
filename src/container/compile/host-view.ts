/**
 * The host's root folder as an ordinary user can see it copy-on-write: a kernel lets nobody lay an overlay over mounts that were locked when
 * the user namespace was made (mount_namespaces(7)), and "/" always has some. So each of its folders gets an overlay of its
 * own, in one tmpfs; a folder with mounts inside is shown as it is, read-only.
 */
import {
  AT_FDCWD,
  AT_RECURSIVE,
  MOUNT_ATTR_RDONLY,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_WRONLY,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
} from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import type { SyscallOptions } from '../../tape/tape.ts';
import type { HostEntry } from '../types.ts';
import type { Program } from './program.ts';

/** Folders in the tmpfs: changes, overlayfs's own, and the view. A failed mount leaves something in the second. */
const WHOLE = ['upper', 'work', 'merged'] as const;
const PARTS = ['uppers', 'works', 'merged'] as const;

export interface OverlayPlace {
  /** The tmpfs that holds the changes. */
  changes: Reg;
  /** Where it is attached. */
  path: string;
  lower: string;
  /** Attributes are kept under user.*: trusted.* belong to the machine's root. */
  userAttributes: boolean;
}

/** Lays the view of `lower` as a whole, or where that is refused one of each entry. Returns its path. */
export function mountView(
  program: Program,
  place: OverlayPlace,
  entries: readonly HostEntry[] | undefined,
): string {
  const { tape } = program;
  for (const folder of WHOLE) tape.syscall('mkdirat', [place.changes, folder, 0o755]);
  const refused = tape.label('locked_mounts');
  mountOverlay(program, place, WHOLE, '', entries === undefined ? {} : { on: { any: refused } });
  if (entries !== undefined) {
    const shown = tape.label('shown');
    tape.jump(shown);
    tape.place(refused);
    mountEntries(program, place, entries);
    tape.place(shown);
  }
  return `${place.path}/${WHOLE[2]}`;
}

function mountEntries(program: Program, place: OverlayPlace, entries: readonly HostEntry[]): void {
  const { tape } = program;
  for (const folder of PARTS.slice(0, 2)) tape.syscall('mkdirat', [place.changes, folder, 0o755]);
  const [upper, work, merged] = PARTS.map((folder) =>
    tape.syscall('openat', [place.changes, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]),
  ) as [Reg, Reg, Reg];
  for (const { name, kind, mode, link } of entries) {
    const source = join(place.lower, name);
    program.step('root.path', `show ${source}`);
    if (kind === 'link') {
      tape.syscall('symlinkat', [link ?? '', merged, name]);
      continue;
    }
    if (kind === 'file') {
      const flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
      program.close(tape.syscall('openat', [merged, name, flags, mode]));
      bindReadOnly(program, source, merged, name);
      continue;
    }
    tape.syscall('mkdirat', [merged, name, mode]);
    if (kind === 'empty') continue;
    tape.syscall('mkdirat', [upper, name, mode]);
    tape.syscall('mkdirat', [work, name, 0o755]);
    const whole = tape.label('has_mounts');
    const shown = tape.label('shown');
    mountOverlay(program, place, PARTS, `/${name}`, { on: { any: whole } });
    tape.jump(shown);
    tape.place(whole);
    // What everybody writes to must stay so; the host's own is not to be written to.
    if ((mode & 0o002) === 0) bindReadOnly(program, source, merged, name);
    tape.place(shown);
  }
  for (const folder of [upper, work, merged]) program.close(folder);
}

function mountOverlay(
  program: Program,
  { path, lower, userAttributes }: OverlayPlace,
  folders: typeof WHOLE | typeof PARTS,
  below: string,
  options: SyscallOptions,
): void {
  const [upper, work, merged] = folders.map((folder) => `${path}/${folder}${below}`) as [
    string,
    string,
    string,
  ];
  const text = [
    `lowerdir=${escaped(lower === '/' && below !== '' ? below : lower + below)}`,
    `upperdir=${escaped(upper)}`,
    `workdir=${escaped(work)}`,
    ...(userAttributes ? ['userxattr'] : []),
  ].join(',');
  program.tape.syscall('mount', ['overlay', merged, 'overlay', 0, text], options);
}

/** What cannot be reached stays empty, as it does for the user outside. */
function bindReadOnly(program: Program, source: string, merged: Reg, name: string): void {
  const { tape } = program;
  const unreachable = tape.label('unreachable');
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE;
  const tree = tape.syscall('open_tree', [AT_FDCWD, source, flags], { on: { EACCES: unreachable } });
  program.setAttributes(tree, { set: MOUNT_ATTR_RDONLY }, true);
  const target = tape.syscall('openat', [merged, name, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0]);
  program.attach(tree, target);
  program.close(target);
  program.close(tree);
  tape.place(unreachable);
}

function join(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`;
}

/** Signs that overlayfs's option parser takes for itself. */
function escaped(path: string): string {
  return path.replaceAll(/[\\:,]/g, '\\$&');
}
