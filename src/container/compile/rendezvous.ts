/**
 * Where the player and the init wait for each other in the middle of a create: hooks that run on the host, a seccomp listener that is
 * handed over. One datagram each way; the end of either process is the other's end of file, and never a "go" (hazards A4).
 */
import { AF_UNIX, MSG_NOSIGNAL, POLLIN, SOCK_CLOEXEC, SOCK_SEQPACKET } from '../../linux/constants.ts';
import { encode } from '../../linux/structs.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

export interface Rendezvous {
  player: Reg;
  init: Reg;
}

/** How long the player waits for the init's end once it has given up, so that the cause is told and not the consequence. */
const END_SECONDS = 5;

/** Before the clone. Afterwards each side closes the other's end. */
export function openRendezvous(program: Program): Rendezvous {
  const { tape } = program;
  program.step('', 'make the rendezvous of player and init');
  const pair = tape.space(8);
  tape.syscall('socketpair', [AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair]);
  return { player: tape.load(pair.at(0, 4), 4), init: tape.load(pair.at(4, 4), 4) };
}

/** The init says that it is there and waits for its "go"; without one it ends. */
export function meetPlayer(program: Program, end: Reg): void {
  const { tape } = program;
  tape.syscall('sendto', [end, 'h', 1, MSG_NOSIGNAL, 0, 0]);
  awaitGo(program, end);
}

export function awaitGo(program: Program, end: Reg): void {
  const { tape } = program;
  const go = tape.label('go');
  const byte = tape.space(8);
  tape.jumpIfEqual(tape.syscall('read', [end, byte, 1]), 1, go);
  // Not FAIL: the player has told why.
  tape.halt(1);
  tape.place(go);
}

/** The player waits for the init; where that has ended meanwhile, the play ends with the same code as it. */
export function meetInit(program: Program, end: Reg, initFailed: number): void {
  const { tape } = program;
  const there = tape.label('init_there');
  const byte = tape.space(8);
  tape.jumpIfEqual(tape.syscall('read', [end, byte, 1]), 1, there);
  tape.halt(initFailed);
  tape.place(there);
}

export function sayGo(program: Program, end: Reg): void {
  program.tape.syscall('sendto', [end, 'g', 1, MSG_NOSIGNAL, 0, 0]);
}

/** The player gives up: the init ends first. FAIL or HALT must follow. */
export function endInit(program: Program, end: Reg, pid: Reg): void {
  const { tape } = program;
  program.close(end);
  const gone = tape.label('init_gone');
  const pidfd = tape.syscall('pidfd_open', [pid, 0], { on: { ESRCH: gone } });
  const poll = tape.struct(encode('pollfd', { events: POLLIN }));
  tape.store(pidfd, poll.at(0, 4), 4);
  tape.syscall('ppoll', [poll, 1, tape.struct(encode('timespec', { tv_sec: END_SECONDS })), 0, 8]);
  tape.place(gone);
}
