/** ps(1) of the host: its tape. What it prints goes to a file that loses its name as soon as it is open. */
import { AT_FDCWD, O_CLOEXEC, O_WRONLY, SIGCHLD } from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';

export interface HostPsInput {
  /** Absolute path of the program. */
  program: string;
  options: readonly string[];
  environment: readonly string[];
  /** An empty file. */
  output: string;
}

/** Result slot: its wait status, as wait4(2) writes it. */
export const PS_STATUS = 1;
const NOT_EXECUTED = 127;

export function compileHostPs({ program: path, options, environment, output }: HostPsInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  program.step('', 'take the file for the output of ps');
  const file = tape.syscall('openat', [AT_FDCWD, output, O_WRONLY | O_CLOEXEC, 0]);
  tape.syscall('unlinkat', [AT_FDCWD, output, 0]);
  program.step('', `run ${[path, ...options].join(' ')}`);
  const strings = (texts: readonly string[]) =>
    tape.pointers([...texts.map((text) => tape.cstr(text)), null]);
  const child = tape.label('ps');
  const parent = tape.label('ps_runs');
  const pid = tape.syscall('clone', [SIGCHLD, 0, 0, 0, 0]);
  tape.jumpIfEqual(pid, 0, child);
  tape.jump(parent);

  tape.place(child);
  const failed = { any: tape.label('ps_failed') };
  tape.syscall('dup3', [file, 1, 0], { on: failed });
  tape.syscall('dup3', [file, 2, 0], { on: failed });
  tape.syscall('execve', [path, strings([path, ...options]), strings(environment)], { on: failed });
  tape.place(failed.any);
  tape.syscall('exit_group', [NOT_EXECUTED]);

  tape.place(parent);
  const status = tape.space(8);
  tape.syscall('wait4', [pid, status, 0, 0]);
  tape.store(tape.load(status.at(0, 4), 4), tape.slot(PS_STATUS), 8);
  tape.halt(0);
  return tape.assemble();
}
