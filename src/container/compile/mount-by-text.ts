/** mount(2) with options as one text: for filesystems whose options the mount API would not take, or not at that length. */
import { WherryError } from '../../errors.ts';
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH } from '../../linux/constants.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import { fitOptions, MOUNT_DATA_MAX } from './overlay-text.ts';
import type { Program } from './program.ts';

export interface TextMount {
  type: string;
  source: string | DataRef;
  /** Where to, as a descriptor, so that no path is walked again. */
  target: Reg;
  /** MS_*. */
  flags: number;
  words: readonly string[];
  /** Field of the configuration, for errors. */
  path: string;
}

/** @throws WherryError invalid-argument: more options than the kernel takes */
export function mountByText(program: Program, mount: TextMount): void {
  const { tape } = program;
  const { type, words, path } = mount;
  const short = fitOptions(type, words);
  if (short === undefined) {
    throw new WherryError(
      'invalid-argument',
      `${path}.options: the kernel takes at most ${MOUNT_DATA_MAX} bytes`,
      {
        path: `${path}.options`,
        hint: 'use fewer layers, or shorter names for them',
      },
    );
  }
  const folder = (place: string): Reg =>
    tape.syscall('openat', [AT_FDCWD, place, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
  const before = short.folder === undefined ? undefined : folder('.');
  if (short.folder !== undefined) tape.syscall('chdir', [short.folder]);
  for (const { path: layer, descriptor } of short.open ?? []) {
    const opened = folder(layer);
    tape.syscall('dup3', [opened, descriptor, O_CLOEXEC]);
    program.close(opened);
  }
  tape.syscall('mount', [mount.source, descriptorPath(program, mount.target), type, mount.flags, short.text]);
  const first = short.open?.[0]?.descriptor;
  if (first !== undefined) {
    tape.syscall('close_range', [first, first + (short.open ?? []).length - 1, 0]);
  }
  if (before !== undefined) {
    tape.syscall('fchdir', [before]);
    program.close(before);
  }
}

/** `/proc/self/fd/N`. */
export function descriptorPath(program: Program, descriptor: Reg): DataRef {
  const { tape } = program;
  const prefix = Buffer.from('/proc/self/fd/');
  const text = tape.bytes(Buffer.concat([prefix, Buffer.alloc(24)]));
  tape.decimal(descriptor, text.at(prefix.length));
  return text;
}
