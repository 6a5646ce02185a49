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

export class Program {
  readonly tape = new Tape();
  /** The container's root filesystem, once it is attached: every path below it starts here. */
  root: Reg = this.tape.reg('root');

  readonly #hows = new Map<string, DataRef>();

  step(path: string, does: string): void {
    this.tape.step(path, does);
  }

  /** struct open_how; equal ones share one place, the kernel only reads it. */
  openHow(flags: number, mode = 0, resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS): [DataRef, number] {
    const key = `${flags},${mode},${resolve}`;
    let ref = this.#hows.get(key);
    if (ref === undefined) {
      ref = this.tape.struct(openHow(flags | O_CLOEXEC, resolve, mode));
      this.#hows.set(key, ref);
    }
    return [ref, ref.length];
  }

  /** openat2 below a directory descriptor, never leaving it (RESOLVE_IN_ROOT, no magic links): hazards A6, oci-peers 4.1 row 5. */
  openInRoot(
    root: Reg,
    path: string,
    flags: number,
    options: SyscallOptions & { mode?: number; resolve?: number } = {},
  ): Reg {
    const [how, size] = this.openHow(flags, options.mode ?? 0, options.resolve);
    return this.tape.syscall('openat2', [root, relative(path), how, size], {
      into: options.into,
      on: options.on,
    });
  }

  close(descriptor: Reg): void {
    this.tape.syscall('close', [descriptor]);
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
    names.forEach((name, index) => {
      const last = index === names.length - 1;
      const prefix = names.slice(0, index + 1).join('/');
      if (last && kind === 'file') {
        const [how, size] = this.openHow(O_CREAT | O_WRONLY | O_NOFOLLOW, MADE_FILE);
        const made = tape.syscall('openat2', [parent, name, how, size]);
        this.close(made);
        this.openInRoot(root, prefix, O_PATH, { into: target, resolve });
        return;
      }
      const folder = last ? target : tape.reg();
      const make = tape.label('make');
      const made = tape.label('made');
      const found = tape.label('found');
      this.openInRoot(root, prefix, O_PATH | O_DIRECTORY, { into: folder, on: { ENOENT: make }, resolve });
      tape.jump(found);
      tape.place(make);
      tape.syscall('mkdirat', [parent, name, MADE_FOLDER], { on: { EEXIST: made } });
      tape.place(made);
      this.openInRoot(root, prefix, O_PATH | O_DIRECTORY, { into: folder, resolve });
      tape.place(found);
      parent = folder;
    });
    tape.place(have);
    return target;
  }

  /** Attaches a detached mount at a place that is given by its descriptor. */
  attach(mount: Reg, target: Reg, options: SyscallOptions = {}): void {
    this.tape.syscall(
      'move_mount',
      [mount, '', target, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH],
      options,
    );
  }

  /** mount_setattr on a mount that a descriptor stands for. */
  setAttributes(
    mount: Reg,
    attributes: { set?: number; clear?: number; propagation?: number },
    recursive = false,
  ): void {
    const encoded = mountAttr(attributes.set ?? 0, attributes.clear, attributes.propagation);
    this.tape.syscall('mount_setattr', [
      mount,
      '',
      AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
      this.tape.struct(encoded),
      encoded.bytes.length,
    ]);
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
    for (const entry of values) {
      const { value, field, mayFail } = entry;
      if (entry !== first) this.step(field, `write ${value} to ${path}`);
      const next = tape.label('next');
      tape.syscall('write', [file, value, Buffer.byteLength(value)], { on: tolerate(mayFail, next) });
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
  return Object.fromEntries((errnos ?? []).map((errno) => [errno, label]));
}

/** Path without leading slashes and dots, '' never: the root itself is '.'. */
export function relative(path: string): string {
  const joined = components(path).join('/');
  return joined === '' ? '.' : joined;
}

/** Names of a path; '.' and empty ones are dropped, '..' is resolved against what stands before (the root has no parent). */
export function components(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (name === '..') names.pop();
    else names.push(name);
  }
  return names;
}
