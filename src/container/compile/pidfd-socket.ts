/**
 * `--pidfd-socket`: whoever listens there gets a pidfd of the container's init, or of the exec's process, with the word that runc sends
 * (`standard`, `setns`). The process sends it itself, so the number can be nobody else's.
 */
import type { Reg } from '../../tape/refs.ts';
import type { CallerContext } from '../types.ts';
import type { Program } from './program.ts';
import { checkSocketPath, connectTo, sendDescriptor } from './unix-socket.ts';

/** While the host's paths are in sight; undefined: nobody asks. */
export function openPidfdChannel(program: Program, caller: CallerContext | undefined): Reg | undefined {
  const path = caller?.pidfdSocket;
  if (path === undefined) return undefined;
  checkSocketPath(path, '--pidfd-socket');
  program.step('--pidfd-socket', `connect to the pidfd socket ${path}`);
  return connectTo(program, path);
}

/** Once everything is set up, and before a filter could forbid it. */
export function sendPidfd(program: Program, channel: Reg | undefined, word: 'standard' | 'setns'): void {
  if (channel === undefined) return;
  const { tape } = program;
  program.step('--pidfd-socket', 'send the pidfd');
  const pidfd = tape.syscall('pidfd_open', [tape.syscall('getpid', []), 0]);
  sendDescriptor(program, channel, word, pidfd);
  program.close(pidfd);
  program.close(channel);
}
