/**
 * newuidmap(1) and newgidmap(1): programs that may write the ranges which /etc/subuid and /etc/subgid give to an ordinary user.
 * Run by the player; what one says when it refuses lands in the shared page, as a hook's does.
 */
import { SIGCHLD } from '../../linux/constants.ts';
import type { Reg } from '../../tape/refs.ts';
import { HookSlot, memoryFile, reportFailure } from './hooks.ts';
import type { Program } from './program.ts';
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
  const child = tape.label('id_helper');
  const parent = tape.label('id_helper_runs');
  const process = tape.syscall('clone', [SIGCHLD, 0, 0, 0, 0]);
  tape.jumpIfEqual(process, 0, child);
  tape.jump(parent);

  tape.place(child);
  const failed = tape.label('id_helper_failed');
  const error = tape.reg('id_helper_error');
  const call = { into: error, on: { any: failed } };
  tape.syscall('dup3', [output, 1, 0], call);
  tape.syscall('dup3', [output, 2, 0], call);
  tape.syscall('execve', [helper, argv, tape.pointers([null])], call);
  tape.place(failed);
  tape.store(error, tape.slot(HookSlot.EXEC), 8);
  tape.syscall('exit_group', [127]);

  tape.place(parent);
  const status = tape.space(8);
  tape.syscall('wait4', [process, status, 0, 0]);
  const result = tape.load(status.at(0, 4), 4);
  const fine = tape.label('id_helper_done');
  tape.jumpIfEqual(result, 0, fine);
  reportFailure(program, 0, output, result, undefined);
  tape.fail('EPERM');
  tape.place(fine);
  program.close(output);
}
