/** A logger of binary:// or binary-v2://: a program on the host that takes the container's output (shim contract 6.4). */
import { CLONE_PARENT, F_DUPFD_CLOEXEC } from '../../linux/constants.ts';
import { cloneArgs } from '../../linux/structs.ts';
import { LANE_BYTES, LaneState } from '../../tape/format.ts';
import { SharedRef } from '../../tape/refs.ts';
import type { LoggerPlan } from '../stdio.ts';
import { makePipe } from './pipe.ts';
import type { Program } from './program.ts';
import { register } from './register.ts';
import type { OpenStream } from './streams.ts';

/** Apart from the player's and the init's or exec's. */
const LOGGER_LANE = 2;
/** Offset of `state` in a lane (docs/internals.md). */
const LANE_STATE = 12;
const START_FAILED = 1;
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
  const args = cloneArgs({ flags: BigInt(CLONE_PARENT), exitSignal: 0 });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const child = tape.label('logger');
  tape.jumpIfEqual(pid, 0, child);

  program.step('stdout', `wait until the logger ${logger.path} is ready`);
  program.close(ready.writer);
  const reports = tape.label('reports');
  const runs = tape.label('runs');
  const failed = tape.label('failed');
  const count = tape.syscall('read', [ready.reader, tape.space(8), 1]);
  tape.jumpIfEqual(count, 1, reports);
  const state = new SharedRef(LOGGER_LANE * LANE_BYTES + LANE_STATE);
  tape.jumpIfEqual(tape.load(state, 4), LaneState.FAILED, failed);
  if (logger.mustReport) tape.fail('EPROTO');
  tape.jump(runs);
  tape.place(failed);
  tape.halt(START_FAILED);

  tape.place(child);
  tape.lane(LOGGER_LANE);
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
  // It is another's business from here on; a refused execve makes it a failure again.
  tape.store(tape.set(LaneState.HALTED), state, 4);
  tape.syscall('execve', [logger.path, texts([logger.path, ...logger.args]), texts(logger.env)]);

  tape.place(reports);
  tape.place(runs);
  program.close(ready.reader);
  return {
    stdout: { container: out.writer, reader: out.reader, writer: out.writer },
    stderr: { container: err.writer, reader: err.reader, writer: err.writer },
  };
}
