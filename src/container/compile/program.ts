/**
 * compile/ turns a checked configuration into tapes. It is pure: no system call, no file is read here, so the same input
 * gives the same tape and a unit test needs no root.
 * This file: the tape under construction with the helpers that every part needs, first of all safe paths in a root.
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_RECURSIVE,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_WRONLY,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
} from '../../linux/constants.ts';
import { mountAttr, openHow } from '../../linux/structs.ts';
import type { DataRef, Label, Reg } from '../../tape/refs.ts';
import { type SyscallOptions, Tape } from '../../tape/tape.ts';

/** Permissions of folders that are made for mount targets. */
const MADE_FOLDER = 0o755;
const MADE_FILE = 0o644;
const HERE = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;

export class Program {
  readonly tape = new Tape();
  /** The container's root filesystem, once it is attached: every path below it starts here. */
  root: Reg = this.tape.reg('root');

  readonly #hows: { flags: number; mode: number; resolve: number; ref: DataRef }[] = [];
  readonly #attributes: { set: number; clear: number; propagation: number; ref: DataRef }[] = [];

  step(path: string, does: string): void {
    this.tape.step(path, does);
  }

  /** struct open_how; equal ones share one place, the kernel only reads it. */
  openHow(flags: number, mode = 0, resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS): DataRef {
    const known = this.#hows;
    for (let index = 0; index < known.length; index++) {
      const how = known[index]!;
      if (how.flags === flags && how.mode === mode && how.resolve === resolve) return how.ref;
    }
    const ref = this.tape.struct(openHow(flags | O_CLOEXEC, resolve, mode));
    known.push({ flags, mode, resolve, ref });
    return ref;
  }

  /** openat2 below a directory descriptor, never leaving it (RESOLVE_IN_ROOT, no magic links): hazards A6, oci-peers 4.1 row 5. */
  openInRoot(
    root: Reg,
    path: string,
    flags: number,
    options?: SyscallOptions & { mode?: number; resolve?: number },
  ): Reg {
    const how = this.openHow(flags, options?.mode, options?.resolve);
    return this.tape.syscall('openat2', [root, relative(path), how, how.length], options);
  }

  close(descriptor: Reg): void {
    this.tape.perform('close', [descriptor]);
  }

  /**
   * A descriptor (O_PATH) of a place in the root, made if it is missing: folders, and at the end a folder or an empty file.
   * Each folder is made below the descriptor of its parent, so a symlink that is swapped in meanwhile leads nowhere else.
   * @param resolve flags of openat2(2) in place of the usual ones
   */
  ensure(root: Reg, path: string, kind: 'folder' | 'file', resolve?: number): Reg {
    const { tape } = this;
    const target = tape.reg('target');
    const missing = tape.label('missing');
    const have = tape.label('have');
    this.openInRoot(root, path, O_PATH, { into: target, on: { ENOENT: missing }, resolve });
    tape.jump(have);
    tape.place(missing);
    const names = components(path);
    let parent = root;
    let prefix = '';
    for (let index = 0; index < names.length; index++) {
      const name = names[index]!;
      const last = index === names.length - 1;
      prefix = index === 0 ? name : `${prefix}/${name}`;
      if (last && kind === 'file') {
        const how = this.openHow(O_CREAT | O_WRONLY | O_NOFOLLOW, MADE_FILE);
        const made = tape.syscall('openat2', [parent, name, how, how.length]);
        this.close(made);
        this.openInRoot(root, prefix, O_PATH, { into: target, resolve });
        break;
      }
      const folder = last ? target : tape.reg();
      const made = tape.label('made');
      const found = tape.label('found');
      // Of the last one it is known that it is missing.
      if (!last) {
        const make = tape.label('make');
        this.openInRoot(root, prefix, O_PATH | O_DIRECTORY, { into: folder, on: { ENOENT: make }, resolve });
        tape.jump(found);
        tape.place(make);
      }
      tape.perform('mkdirat', [parent, name, MADE_FOLDER], { EEXIST: made });
      tape.place(made);
      this.openInRoot(root, prefix, O_PATH | O_DIRECTORY, { into: folder, resolve });
      tape.place(found);
      parent = folder;
    }
    tape.place(have);
    return target;
  }

  /** Attaches a detached mount at a place that is given by its descriptor. */
  attach(mount: Reg, target: Reg, options?: SyscallOptions): void {
    this.tape.perform('move_mount', [mount, '', target, '', HERE], options?.on);
  }

  /** mount_setattr on a mount that a descriptor stands for. */
  setAttributes(
    mount: Reg,
    attributes: { set?: number; clear?: number; propagation?: number },
    recursive = false,
  ): void {
    const attr = this.#mountAttr(attributes.set ?? 0, attributes.clear ?? 0, attributes.propagation ?? 0);
    const flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    this.tape.perform('mount_setattr', [mount, '', flags, attr, attr.length]);
  }

  /** struct mount_attr; shared like open_how. */
  #mountAttr(set: number, clear: number, propagation: number): DataRef {
    const known = this.#attributes;
    for (let index = 0; index < known.length; index++) {
      const attr = known[index]!;
      if (attr.set === set && attr.clear === clear && attr.propagation === propagation) return attr.ref;
    }
    const ref = this.tape.struct(mountAttr(set, clear, propagation));
    known.push({ set, clear, propagation, ref });
    return ref;
  }

  /** Writes a text with one write(2). */
  write(file: Reg | number, text: string, on?: SyscallOptions['on']): void {
    const ref = this.tape.cstr(text);
    this.tape.perform('write', [file, ref, ref.length - 1], on);
  }

  /** Opens a small kernel file, writes values to it, one write each, and closes it. Tolerated errnos are no failure. */
  writeValues(
    path: string,
    values: readonly { value: string; field: string; mayFail?: readonly string[] }[],
  ): void {
    const { tape } = this;
    const done = tape.label('written');
    const first = values[0];
    if (first === undefined) return;
    this.step(first.field, `write ${first.value} to ${path}`);
    const file = tape.syscall('openat', [AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0], {
      on: tolerate(first.mayFail, done),
    });
    for (let index = 0; index < values.length; index++) {
      const { value, field, mayFail } = values[index]!;
      if (index > 0) this.step(field, `write ${value} to ${path}`);
      const next = tape.label('next');
      this.write(file, value, tolerate(mayFail, next));
      tape.place(next);
    }
    this.close(file);
    tape.place(done);
  }

  writeFile(path: string, value: string, field: string): void {
    this.writeValues(path, [{ value, field }]);
  }
}

function tolerate(errnos: readonly string[] | undefined, label: Label): SyscallOptions['on'] {
  if (errnos === undefined || errnos.length === 0) return undefined;
  return Object.fromEntries(errnos.map((errno) => [errno, label]));
}

const SLASH = '/'.charCodeAt(0);
const DOT = '.'.charCodeAt(0);

/** Path without leading slashes and dots, '' never: the root itself is '.'. */
export function relative(path: string): string {
  const plain = withoutSlash(path);
  if (plain !== undefined) return plain;
  const joined = components(path).join('/');
  return joined === '' ? '.' : joined;
}

/** Of a path that has nothing to be dropped or resolved but one slash at its beginning: what `components` would give, joined. */
function withoutSlash(path: string): string | undefined {
  const first = path.charCodeAt(0);
  const last = path.charCodeAt(path.length - 1);
  const plain =
    path.length > 1 && last !== SLASH && first !== DOT && !path.includes('//') && !path.includes('/.');
  if (!plain) return undefined;
  return first === SLASH ? path.slice(1) : path;
}

/** Names of a path; '.' and empty ones are dropped, '..' is resolved against what stands before (the root has no parent). */
export function components(path: string): string[] {
  const plain = withoutSlash(path);
  if (plain !== undefined) return plain.split('/');
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (name === '..') names.pop();
    else names.push(name);
  }
  return names;
}
