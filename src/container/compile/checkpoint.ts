/** The tape that has criu dump a container: folders for the image, what its stdio was, the conversation. */
import {
  AT_FDCWD,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
} from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { converse, IMAGES_FD, WORK_FD } from './criu.ts';
import { PlayerDescriptor } from './input.ts';
import { Program } from './program.ts';

export interface CheckpointInput {
  program: string;
  request: Uint8Array;
  imagesDir: string;
  workDir: string | undefined;
  /** Text of descriptors.json; undefined: not written. */
  descriptors: string | undefined;
  /** The caller's descriptor that gets a zero byte when the server for lazy pages listens; the player has it from PRESERVED on. */
  statusFd: number | undefined;
}

export function compileCheckpoint(input: CheckpointInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  openImageFolders(program, input, true);
  if (input.descriptors !== undefined) {
    program.step('--image-path', 'write down what standard input and output were');
    const path = `${input.imagesDir}/descriptors.json`;
    const file = tape.syscall('openat', [AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600]);
    tape.syscall('write', [file, input.descriptors, Buffer.byteLength(input.descriptors)]);
    program.close(file);
  }
  const { statusFd } = input;
  const status = statusFd === undefined ? undefined : PlayerDescriptor.PRESERVED + statusFd - 3;
  converse(program, {
    program: input.program,
    request: input.request,
    sibling: false,
    descriptors: new Map(),
    on: {
      ...(status !== undefined && {
        ready: () => {
          tape.syscall('write', [status, tape.bytes(Buffer.alloc(8)), 1]);
          tape.syscall('close', [status]);
        },
      }),
    },
  });
  tape.halt(0);
  return tape.assemble();
}

/** Opens them where the request says that they are. `make`: where they are missing. */
export function openImageFolders(
  program: Program,
  { imagesDir, workDir }: Pick<CheckpointInput, 'imagesDir' | 'workDir'>,
  make: boolean,
): void {
  const { tape } = program;
  const open = (path: string, field: string, number: number, made: boolean) => {
    program.step(field, `open the folder ${path}`);
    if (made) {
      const there = tape.label('there');
      tape.syscall('mkdirat', [AT_FDCWD, path, 0o700], { on: { EEXIST: there } });
      tape.place(there);
    }
    const folder = tape.syscall('openat', [AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0]);
    tape.syscall('dup3', [folder, number, O_CLOEXEC]);
    program.close(folder);
  };
  open(imagesDir, '--image-path', IMAGES_FD, make);
  if (workDir !== undefined) open(workDir, '--work-path', WORK_FD, true);
}
