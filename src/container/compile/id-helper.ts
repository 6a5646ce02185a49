/**
 * newuidmap(1) and newgidmap(1): programs that may write the ranges which /etc/subuid and /etc/subgid give to an ordinary user.
 * Run by the player; what one says when it refuses lands in the shared page, as a hook's does.
 */
import type { Reg } from '../../tape/refs.ts';
import { HookSlot, memoryFile, reportFailure } from './hooks.ts';
import type { Program } from './program.ts';
import { runProgram } from './run-program.ts';
import type { MapFile } from './user-namespace.ts';

const DECIMAL_ROOM = 24;

export function runIdHelper(program: Program, pid: Reg, map: MapFile & { helper: string }): void {
  const { tape } = program;
  const { helper, text, field } = map;
  const numbers = text.split(/\s+/).filter((word) => word !== '');
  program.step(field, `run ${helper} PID ${numbers.join(' ')}`);
  const digits = tape.bytes(Buffer.alloc(DECIMAL_ROOM));
  tape.decimal(pid, digits);
  const argv = tape.pointers([
    tape.cstr(helper),
    digits,
    ...numbers.map((number) => tape.cstr(number)),
    null,
  ]);
  const output = memoryFile(program, 'id-helper');
  const result = runProgram(program, {
    name: 'id_helper',
    path: helper,
    argv,
    envp: tape.pointers([null]),
    output,
    notExecuted: (error) => tape.store(error, tape.slot(HookSlot.EXEC), 8),
  });
  const fine = tape.label('id_helper_done');
  tape.jumpIfEqual(result, 0, fine);
  reportFailure(program, 0, output, result, undefined);
  tape.fail('EPERM');
  tape.place(fine);
  program.close(output);
}
