/** A pipe whose ends are the tape's own. */
import { O_CLOEXEC } from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

/** Both ends end at an execve. */
export function makePipe(program: Program): { reader: Reg; writer: Reg } {
  const { tape } = program;
  const ends = tape.space(8);
  tape.syscall('pipe2', [ends, O_CLOEXEC]);
  return { reader: tape.load(ends.at(0, 4), 4), writer: tape.load(ends.at(4, 4), 4) };
}
