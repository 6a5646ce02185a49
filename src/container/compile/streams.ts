/** The player's part of the standard streams: what was planned is opened on the host, with the host's rights. */
import {
  AT_FDCWD,
  F_SETFL,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_NONBLOCK,
  O_RDONLY,
  O_WRONLY,
} from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import type { StreamTarget } from '../stdio.ts';
import type { CreateInput } from './input.ts';
import { startLogger } from './logger.ts';
import { makePipe } from './pipe.ts';
import type { Program } from './program.ts';

/** A stream's descriptor for the container and the ends that keel keeps. */
export interface OpenStream {
  /** undefined: /dev/null, which the player already has, or a terminal that is still to be made. */
  container: Reg | undefined;
  /** A reader (stdout, stderr) and a writer (all), of FIFOs and of a logger's pipes. */
  reader?: Reg;
  writer?: Reg;
  /** What keel copies from: the pipe that the container writes to, or the FIFO whose bytes go to the terminal. */
  source?: Reg;
}

/** stdin, stdout, stderr; none: the caller's own 0-2. */
export function openStreams(program: Program, input: Pick<CreateInput, 'stdio' | 'settings'>): OpenStream[] {
  const { stdio } = input;
  if (stdio.kind === 'inherit') return [];
  const logger = stdio.logger === undefined ? undefined : startLogger(program, stdio.logger);
  if (stdio.kind === 'terminal') {
    const { container: source, writer } = openInput(program, stdio.stdin);
    const out = logger?.stdout ?? openOutput(program, stdio.stdout, 'stdout');
    return [
      {
        container: undefined,
        ...(source !== undefined && { source }),
        ...(writer !== undefined && { writer }),
      },
      { ...out, container: undefined },
      { container: undefined },
    ];
  }
  const stdin = openInput(program, stdio.stdin);
  blocking(program, stdio.stdin, stdin);
  const streams = [
    stdin,
    ...(logger === undefined ? openOutputs(program, stdio) : [logger.stdout, logger.stderr]),
  ];
  giveToUser(program, input, streams);
  return streams;
}

function openOutputs(
  program: Program,
  { stdout: out, stderr: err, copied }: { stdout: StreamTarget; stderr: StreamTarget; copied?: boolean },
): OpenStream[] {
  const open = copied === true ? openCopied : openOutput;
  const stdout = open(program, out, 'stdout');
  const same = out.type !== 'null' && err.type !== 'null' && out.path === err.path;
  return [stdout, same ? { container: stdout.container } : open(program, err, 'stderr')];
}

/**
 * A FIFO for output goes to the container directly. The own reader is opened first: with it the writer's open never
 * blocks, and a vanished reader costs the container no SIGPIPE. keel drops both ends after the exit (docs/internals.md).
 */
function openOutput(program: Program, target: StreamTarget, field: string): OpenStream {
  if (target.type === 'null') return { container: undefined };
  const { tape } = program;
  if (target.type === 'file') {
    if (target.create) makeParents(program, target.path, field);
    program.step(field, `open ${target.path} for ${field}`);
    const flags = O_WRONLY | O_APPEND | O_CLOEXEC | (target.create ? O_CREAT : 0);
    return { container: tape.syscall('openat', [AT_FDCWD, target.path, flags, 0o644]) };
  }
  program.step(field, `open ${target.path} for ${field}`);
  const reader = tape.syscall('openat', [AT_FDCWD, target.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0]);
  const writer = tape.syscall('openat', [AT_FDCWD, target.path, O_WRONLY | O_CLOEXEC, 0]);
  return { container: writer, reader, writer };
}

/** A pipe between the process and the FIFO: nothing takes the FIFO itself from who holds it (hazards A1). */
function openCopied(program: Program, target: StreamTarget, field: string): OpenStream {
  const fifo = openOutput(program, target, field);
  if (target.type !== 'fifo') return fifo;
  program.step(field, `make a pipe for ${field}`);
  const pipe = makePipe(program);
  return { ...fifo, container: pipe.writer, source: pipe.reader };
}

/** Not blocking yet: the container's end must be, keel's must not. */
function openInput(program: Program, target: StreamTarget): OpenStream {
  if (target.type === 'null') return { container: undefined };
  const { tape } = program;
  program.step('stdin', `open ${target.path} for stdin`);
  if (target.type === 'file') {
    return { container: tape.syscall('openat', [AT_FDCWD, target.path, O_RDONLY | O_CLOEXEC, 0]) };
  }
  const reader = tape.syscall('openat', [AT_FDCWD, target.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0]);
  const writer = tape.syscall('openat', [AT_FDCWD, target.path, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0]);
  return { container: reader, writer };
}

function blocking(program: Program, target: StreamTarget, { container }: OpenStream): void {
  if (target.type === 'fifo' && container !== undefined)
    program.tape.syscall('fcntl', [container, F_SETFL, 0]);
}

function makeParents(program: Program, path: string, field: string): void {
  const names = path.split('/').filter((name) => name !== '');
  if (names.length < 2) return;
  program.step(field, `make the folders of ${path}`);
  for (let count = 1; count < names.length; count++) {
    const next = program.tape.label('next');
    const folder = `/${names.slice(0, count).join('/')}`;
    // What is wrong with them the open tells.
    program.tape.syscall('mkdirat', [AT_FDCWD, folder, 0o755], { on: { any: next } });
    program.tape.place(next);
  }
}

/** io_uid and io_gid are the host's ids of a user inside a user namespace, who could not take the streams himself. */
function giveToUser(
  program: Program,
  { settings }: Pick<CreateInput, 'settings'>,
  streams: readonly OpenStream[],
): void {
  const { ioUid, ioGid } = settings ?? {};
  if ((ioUid ?? 0) === 0 && (ioGid ?? 0) === 0) return;
  program.step('options.io_uid', "give the standard streams to the container's user");
  for (const { container } of streams) {
    if (container !== undefined) program.tape.syscall('fchown', [container, ioUid ?? -1, ioGid ?? -1]);
  }
}
