/** Tapes of one process whose streams keel carries, made of the same parts as those of containers and execs. */

import { Program } from '../../../src/container/compile/program.ts';
import { EndKind, giveToKeel, register } from '../../../src/container/compile/register.ts';
import { openStreams } from '../../../src/container/compile/streams.ts';
import type { StdioPlan } from '../../../src/container/stdio.ts';
import {
  AT_FDCWD,
  CLONE_PARENT,
  O_CLOEXEC,
  O_NOCTTY,
  O_RDWR,
  TIOCGPTPEER,
  TIOCSCTTY,
  TIOCSPTLCK,
} from '../../../src/linux/constants.ts';
import { cloneArgs, timespec } from '../../../src/linux/structs.ts';

/** `lingers`: how long its player lives on once it has made the process, ms. */
export function processTape(
  token: bigint,
  stdio: StdioPlan,
  args: readonly string[],
  lingers = 0,
): Uint8Array {
  const program = new Program();
  const { tape } = program;
  const streams = openStreams(program, { stdio });
  const clone = cloneArgs({ flags: CLONE_PARENT, exitSignal: 0 });
  const child = tape.label('process');
  tape.jumpIfEqual(tape.syscall('clone3', [tape.struct(clone), clone.bytes.length]), 0, child);
  if (lingers > 0) tape.syscall('nanosleep', [tape.struct(timespec(lingers)), 0]);
  tape.halt(0);

  tape.place(child);
  tape.lane(1);
  register(program, { token }, { streams });
  tape.syscall('setsid', []);
  if (stdio.kind === 'terminal') {
    const master = tape.syscall('openat', [AT_FDCWD, '/dev/ptmx', O_RDWR | O_NOCTTY | O_CLOEXEC]);
    tape.syscall('ioctl', [master, TIOCSPTLCK, tape.space(4)]);
    const slave = tape.syscall('ioctl', [master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC]);
    giveToKeel(program, token, [[EndKind.master, master]]);
    for (const number of [0, 1, 2]) tape.syscall('dup3', [slave, number, 0]);
    tape.syscall('ioctl', [0, TIOCSCTTY, 0]);
  } else {
    streams.forEach(({ container }, number) => {
      if (container !== undefined) tape.syscall('dup3', [container, number, 0]);
    });
  }
  const texts = tape.pointers([...args.map((text) => tape.cstr(text)), null]);
  tape.syscall('execve', [args[0] ?? '', texts, tape.pointers([tape.cstr('PATH=/usr/bin:/bin'), null])]);
  return tape.assemble().image;
}
