/** The last step of an init. Nobody reads the shared page any more: a refusal is said where the program's output goes, as in runc. */
import { errnoNumbers, errnoText } from '../../linux/errno.ts';
import type { Label } from '../../tape/refs.ts';
import type { CreateInput } from './input.ts';
import type { Program } from './program.ts';
import type { FoundProgram } from './program-lookup.ts';

/** runc's since 1.2. */
const REFUSED = 255;
/** docker's: the file is no program; its interpreter is missing. */
const NO_PROGRAM = 126;
const NO_INTERPRETER = 127;

export function execute(program: Program, found: FoundProgram, input: CreateInput): void {
  const { tape } = program;
  const name = input.spec.process.args[0] ?? '';
  program.step('process.args', `execute ${name}`);
  const noFormat = tape.label('refused_ENOEXEC');
  const noInterpreter = tape.label('refused_ENOENT');
  const other = tape.label('refused_any');
  tape.perform('execve', [found.path, found.argv, found.envp], {
    ENOEXEC: noFormat,
    ENOENT: noInterpreter,
    any: other,
  });
  const refuse = (label: Label, reason: string, docker: number): void => {
    tape.place(label);
    const unheard = tape.label('unheard');
    program.write(2, `exec ${name}: ${reason}\n`, { any: unheard });
    tape.place(unheard);
    tape.halt(input.dockerStatus === true ? docker : REFUSED);
  };
  refuse(noFormat, errnoText(errnoNumbers.ENOEXEC), NO_PROGRAM);
  refuse(noInterpreter, errnoText(errnoNumbers.ENOENT), NO_INTERPRETER);
  refuse(other, 'the kernel refused to execute it', NO_PROGRAM);
}
