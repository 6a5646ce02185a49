/** process.terminal: a pty of the container's own devpts; its master goes to whoever keeps the terminal. */

import {
  AT_EMPTY_PATH,
  O_CLOEXEC,
  O_NOCTTY,
  O_RDWR,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  TIOCGPTPEER,
  TIOCSPTLCK,
  TIOCSWINSZ,
} from '../../linux/constants.ts';
import { winsize } from '../../linux/structs.ts';
import type { Reg } from '../../tape/refs.ts';
import { type CreateInput, PlayerDescriptor } from './input.ts';
import type { Program } from './program.ts';
import { EndKind, giveToKeel } from './register.ts';
import { checkSocketPath, connectTo, sendDescriptor } from './unix-socket.ts';

/** Where the master goes; the connection is made on the host, before the root changes. */
export function openConsoleChannel(program: Program, input: Pick<CreateInput, 'caller' | 'stdio'>): Reg {
  const { tape } = program;
  const { caller, stdio } = input;
  if (stdio.kind === 'terminal') return tape.set(PlayerDescriptor.REGISTRATION);
  if (caller?.consoleSocket === undefined) {
    return tape.set(PlayerDescriptor.CONSOLE);
  }
  const path = caller.consoleSocket;
  checkSocketPath(path, '--console-socket');
  program.step('process.terminal', `connect to the console socket ${path}`);
  return connectTo(program, path);
}

/** Inside the root: pty, /dev/console on its slave, master sent away. Returns the slave. */
export function makeConsole(program: Program, input: CreateInput, channel: Reg): Reg {
  const { tape } = program;
  const { master, slave } = openTerminal(program, input);

  program.step('process.terminal', 'mount the terminal on /dev/console');
  const place = program.ensure(program.root, '/dev/console', 'file');
  const view = tape.syscall('open_tree', [slave, '', OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH]);
  program.attach(view, place);
  program.close(view);
  program.close(place);

  sendTerminal(program, input, channel, master);
  return slave;
}

/** A pty of the devpts in the root (`program.root`), with its size and owner. */
export function openTerminal(
  program: Program,
  input: Pick<CreateInput, 'spec' | 'caller'>,
): { master: Reg; slave: Reg } {
  const { tape } = program;
  program.step('process.terminal', 'open a pseudo terminal');
  const master = program.openInRoot(program.root, 'dev/pts/ptmx', O_RDWR | O_NOCTTY);
  tape.syscall('ioctl', [master, TIOCSPTLCK, tape.space(4)]);
  // TIOCGPTPEER opens the slave by the master, not by a path that the container could have changed (CVE-2025-52565).
  const slave = tape.syscall('ioctl', [master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC]);
  const size = input.spec.process.consoleSize;
  const rows = size?.height ?? input.caller?.consoleSize?.rows ?? 0;
  const cols = size?.width ?? input.caller?.consoleSize?.cols ?? 0;
  if (rows > 0 && cols > 0) tape.syscall('ioctl', [master, TIOCSWINSZ, tape.struct(winsize(rows, cols))]);
  const { uid } = input.spec.process.user;
  if (uid !== 0) tape.syscall('fchown', [slave, uid, -1]);
  return { master, slave };
}

/** Sends the master over the channel and closes it here. */
export function sendTerminal(
  program: Program,
  input: Pick<CreateInput, 'token' | 'stdio'>,
  channel: Reg,
  master: Reg,
): void {
  program.step('process.terminal', 'hand the terminal to its keeper');
  if (input.stdio.kind === 'terminal') {
    giveToKeel(program, input.token, [[EndKind.master, master]]);
    program.close(master);
    return;
  }
  sendDescriptor(program, channel, '/dev/ptmx', master);
  program.close(master);
}
