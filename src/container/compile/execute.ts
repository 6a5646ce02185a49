/** The last step of an init. Nobody reads the shared page any more: a refusal is said where the program's output goes, as in runc. */
import { errnoNumbers, errnoText } from '../../linux/errno.ts';
import type { CreateInput } from './input.ts';
import type { Program } from './program.ts';
import type { FoundProgram } from './program-lookup.ts';

/** What execve(2) says of a file that was found and may be executed: no known format, no interpreter, and all else. */
const refusals = ['ENOEXEC', 'ENOENT', 'any'] as const;

/** runc's since 1.2. */
const REFUSED = 255;
/** docker's: the file is no program; its interpreter is missing. */
const NO_PROGRAM = 126;
const NO_INTERPRETER = 127;

export function execute(program: Program, found: FoundProgram, input: CreateInput): void {
  const { tape } = program;
  const name = input.spec.process.args[0] ?? '';
  program.step('process.args', `execute ${name}`);
  const labels = refusals.map((errno) => [errno, tape.label(`refused_${errno}`)] as const);
  tape.syscall('execve', [found.path, found.argv, found.envp], { on: Object.fromEntries(labels) });
  for (const [errno, label] of labels) {
    tape.place(label);
    const reason = errno === 'any' ? 'the kernel refused to execute it' : errnoText(errnoNumbers[errno]);
    const text = `exec ${name}: ${reason}\n`;
    const unheard = tape.label('unheard');
    tape.syscall('write', [2, text, Buffer.byteLength(text)], { on: { any: unheard } });
    tape.place(unheard);
    const docker = errno === 'ENOENT' ? NO_INTERPRETER : NO_PROGRAM;
    tape.halt(input.dockerStatus === true ? docker : REFUSED);
  }
}
