/** ps(1) of the host: its tape. What it prints goes to a file that loses its name as soon as it is open. */
import { AT_FDCWD, O_CLOEXEC, O_WRONLY } from '../../linux/constants.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';
import { runProgram } from './run-program.ts';

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

export function compileHostPs({ program: path, options, environment, output }: HostPsInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  program.step('', 'take the file for the output of ps');
  const file = tape.syscall('openat', [AT_FDCWD, output, O_WRONLY | O_CLOEXEC, 0]);
  tape.syscall('unlinkat', [AT_FDCWD, output, 0]);
  program.step('', `run ${[path, ...options].join(' ')}`);
  const strings = (texts: readonly string[]) =>
    tape.pointers([...texts.map((text) => tape.cstr(text)), null]);
  const argv = strings([path, ...options]);
  const status = runProgram(program, { name: 'ps', path, argv, envp: strings(environment), output: file });
  tape.store(status, tape.slot(PS_STATUS), 8);
  tape.halt(0);
  return tape.assemble();
}
