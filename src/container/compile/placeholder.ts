/**
 * A process that only is there: systemd makes a scope around processes that exist, and the container's init is to be born in it.
 * It waits in the starter's cgroup, is moved into the scope by systemd, and is killed when the init is there.
 */
import { CLONE_PARENT } from '../../linux/constants.ts';
import { cloneArgs, timespec } from '../../linux/structs.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { Program } from './program.ts';
import { register } from './register.ts';

/** It ends by itself if nobody kills it. */
const LIFETIME_MS = 60_000;

/** Result slot 0 is its pid. */
export function compilePlaceholder(token: bigint): AssembledTape {
  const program = new Program();
  const { tape } = program;
  program.step('linux.cgroupsPath', 'make a process for the scope to begin with');
  const args = cloneArgs({ flags: CLONE_PARENT, exitSignal: 0 });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const child = tape.label('child');
  tape.jumpIfEqual(pid, 0, child);
  tape.store(pid, tape.slot(0), 8);
  tape.halt(0);
  tape.place(child);
  tape.lane(1);
  register(program, { token }, { streams: [] });
  program.step('', 'wait to be killed');
  tape.syscall('ppoll', [0, 0, tape.struct(timespec(LIFETIME_MS)), 0, 8]);
  tape.halt(0);
  return tape.assemble();
}
