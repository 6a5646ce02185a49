/** A program of the host in the middle of a tape: both its outputs go to one file, and the player waits for its end. */
import { SIGCHLD } from '../../linux/constants.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

const NOT_EXECUTED = 127;

export interface ProgramRun {
  /** Of its labels. */
  name: string;
  /** Absolute. */
  path: string;
  argv: DataRef;
  envp: DataRef;
  output: Reg;
  /** In the child, before it ends with 127: what the call that failed gave. */
  notExecuted?: (error: Reg) => void;
}

/** Its wait status, as wait4(2) writes it. */
export function runProgram(program: Program, run: ProgramRun): Reg {
  const { tape } = program;
  const { name, path, argv, envp, output, notExecuted } = run;
  const child = tape.label(name);
  const parent = tape.label(`${name}_runs`);
  const pid = tape.syscall('clone', [SIGCHLD, 0, 0, 0, 0]);
  tape.jumpIfEqual(pid, 0, child);
  tape.jump(parent);

  tape.place(child);
  const failed = tape.label(`${name}_failed`);
  const error = tape.reg(`${name}_error`);
  const call = { into: error, on: { any: failed } };
  tape.syscall('dup3', [output, 1, 0], call);
  tape.syscall('dup3', [output, 2, 0], call);
  tape.syscall('execve', [path, argv, envp], call);
  tape.place(failed);
  notExecuted?.(error);
  tape.syscall('exit_group', [NOT_EXECUTED]);

  tape.place(parent);
  const status = tape.space(8);
  tape.syscall('wait4', [pid, status, 0, 0]);
  return tape.load(status.at(0, 4), 4);
}
