/** A logger of binary:// or binary-v2://: a program on the host that takes the container's output (shim contract 6.4). */
import { CLONE_PARENT, F_DUPFD_CLOEXEC } from '../../linux/constants.ts';
import { errnoNumbers } from '../../linux/errno.ts';
import { cloneArgs } from '../../linux/structs.ts';
import type { LoggerPlan } from '../stdio.ts';
import { failByValue } from './fail-by-value.ts';
import { makePipe } from './pipe.ts';
import type { Program } from './program.ts';
import { register } from './register.ts';
import type { OpenStream } from './streams.ts';

/** Result slot: -errno of what its start failed with; 0: it runs. */
const LOGGER_SLOT = 2;
/** Any other reason is told as EIO. */
const told = ['ENOENT', 'EACCES', 'ENOEXEC', 'ENOTDIR', 'ELOOP', 'ENOMEM'] as const;
/** What the logger expects where; everything of the tape's is moved above them first. */
const FIRST_GIVEN = 3;
const ABOVE = 16;
const MAX_DESCRIPTOR = 0xffff_ffff;

/**
 * Clones it as a child of the player's parent, under a token of its own, and waits until it is ready. Its ends of the pipes
 * are also kept here: a logger that dies costs the container no SIGPIPE.
 */
export function startLogger(
  program: Program,
  logger: LoggerPlan,
): { stdout: OpenStream; stderr: OpenStream } {
  const { tape } = program;
  program.step('stdout', `start the logger ${logger.path}`);
  const out = makePipe(program);
  const err = makePipe(program);
  const ready = makePipe(program);
  tape.store(tape.set(-BigInt(errnoNumbers.EIO)), tape.slot(LOGGER_SLOT), 8);
  const args = cloneArgs({ flags: BigInt(CLONE_PARENT), exitSignal: 0 });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const child = tape.label('logger');
  tape.jumpIfEqual(pid, 0, child);

  program.step('stdout', `wait until the logger ${logger.path} is ready`);
  program.close(ready.writer);
  const runs = tape.label('runs');
  const count = tape.syscall('read', [ready.reader, tape.space(8), 1]);
  tape.jumpIfEqual(count, 1, runs);
  const silent = tape.label('silent');
  const error = tape.load(tape.slot(LOGGER_SLOT), 8);
  tape.jumpIfEqual(error, 0, silent);
  program.step('stdout', `start the logger ${logger.path}`);
  failByValue(program, error, told, (errno) => -BigInt(errno));
  tape.place(silent);
  if (logger.mustReport) {
    program.step('stdout', `wait for the logger ${logger.path} to say that it is ready`);
    tape.fail('EPROTO');
  }
  tape.jump(runs);

  tape.place(child);
  register(program, logger, { streams: [] });
  program.step('stdout', `start the logger ${logger.path}`);
  tape.syscall('setsid', []);
  tape.syscall('umask', [0o022]);
  const given = [out.reader, err.reader, ready.writer];
  const moved = given.map((end) => tape.syscall('fcntl', [end, F_DUPFD_CLOEXEC, ABOVE]));
  moved.forEach((end, index) => {
    tape.syscall('dup3', [end, FIRST_GIVEN + index, 0]);
  });
  tape.syscall('close_range', [FIRST_GIVEN + given.length, MAX_DESCRIPTOR, 0]);
  const texts = (list: readonly string[]) => tape.pointers([...list.map((text) => tape.cstr(text)), null]);
  tape.store(tape.set(0), tape.slot(LOGGER_SLOT), 8);
  const refused = tape.label('refused');
  const failure = tape.syscall(
    'execve',
    [logger.path, texts([logger.path, ...logger.args]), texts(logger.env)],
    { on: { any: refused } },
  );
  tape.place(refused);
  tape.store(failure, tape.slot(LOGGER_SLOT), 8);
  // No HALT: this process shares the player's lane.
  tape.syscall('exit_group', [127]);

  tape.place(runs);
  program.close(ready.reader);
  return {
    stdout: { container: out.writer, reader: out.reader, writer: out.writer },
    stderr: { container: err.writer, reader: err.reader, writer: err.writer },
  };
}
