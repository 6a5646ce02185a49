/** Small tapes that register a process with keel as a container's init does. */

import { StreamEnd } from '../../../src/daemon/wire.ts';
import {
  AT_FDCWD,
  CLONE_NEWPID,
  CLONE_PARENT,
  MSG_NOSIGNAL,
  O_CLOEXEC,
  O_NOCTTY,
  O_NONBLOCK,
  O_RDWR,
  O_WRONLY,
  TIOCGPTPEER,
  TIOCSCTTY,
  TIOCSPTLCK,
} from '../../../src/linux/constants.ts';
import { cloneArgs, iovecs, msghdr, scmRights, scmRightsOffset } from '../../../src/linux/structs.ts';
import type { Reg } from '../../../src/tape/refs.ts';
import { Tape } from '../../../src/tape/tape.ts';

const REGISTRATION = 4;
const CONSOLE = 5;

export interface InitOptions {
  /** What the init becomes; absent: it pauses for ever. */
  args?: string[];
  env?: string[];
  /** Ends the init at once with this code instead. */
  exit?: number;
  /** A FIFO that becomes its stdout; keel gets both ends. */
  stdout?: string;
  /** A FIFO that becomes its stdin; keel gets a writer. */
  stdin?: string;
  /** Its streams are a terminal, whose master goes out by descriptor 5. */
  terminal?: boolean;
  /** In a pid namespace of its own. */
  ownPids?: boolean;
  /** The player does not end after the clone. */
  stay?: boolean;
  /** Steps of the init before it registers. */
  first?: (tape: Tape) => void;
}

function register(tape: Tape, token: bigint, ends: [number, Reg][]): void {
  const body = Buffer.alloc(32);
  body.writeBigUInt64LE(token, 0);
  body.writeUInt32LE(ends.length, 8);
  ends.forEach(([kind], index) => {
    body.writeUInt8(kind, 16 + index);
  });
  const rights = scmRights(ends.map(() => 0));
  const control = tape.struct(rights);
  ends.forEach(([, descriptor], index) => {
    tape.store(descriptor, control.at(scmRightsOffset(index), 4), 4);
  });
  const message = msghdr({
    iov: tape.struct(iovecs([{ at: tape.bytes(body), length: body.length }])),
    iovCount: 1,
    control: { at: control, length: rights.bytes.length },
  });
  tape.syscall('sendmsg', [REGISTRATION, tape.struct(message), MSG_NOSIGNAL]);
}

/** setsid, a pty as streams and controlling terminal, its master sent to the console socket. */
function openTerminal(tape: Tape): void {
  const master = tape.syscall('openat', [AT_FDCWD, '/dev/ptmx', O_RDWR | O_NOCTTY | O_CLOEXEC]);
  tape.syscall('ioctl', [master, TIOCSPTLCK, tape.space(4)]);
  const slave = tape.syscall('ioctl', [master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC]);
  const rights = scmRights([0]);
  const control = tape.struct(rights);
  tape.store(master, control.at(scmRightsOffset(0), 4), 4);
  const message = msghdr({
    iov: tape.struct(iovecs([{ at: tape.bytes(Buffer.from('/dev/ptmx')), length: 9 }])),
    iovCount: 1,
    control: { at: control, length: rights.bytes.length },
  });
  tape.syscall('sendmsg', [CONSOLE, tape.struct(message), MSG_NOSIGNAL]);
  tape.syscall('setsid', []);
  for (const fd of [0, 1, 2]) tape.syscall('dup3', [slave, fd, 0]);
  tape.syscall('ioctl', [0, TIOCSCTTY, 0]);
  tape.syscall('close', [master]);
}

/** The image of a tape whose player clones one init. */
export function initTape(token: bigint, options: InitOptions = {}): Uint8Array {
  const tape = new Tape();
  tape.step('', 'clone an init');
  const flags = CLONE_PARENT | (options.ownPids === true ? CLONE_NEWPID : 0);
  const args = cloneArgs({ flags, exitSignal: 0 });
  const pid = tape.syscall('clone3', [tape.struct(args), args.bytes.length]);
  const init = tape.label('init');
  tape.jumpIfEqual(pid, 0, init);
  tape.store(pid, tape.slot(0), 8);
  if (options.stay === true) tape.syscall('ppoll', [0, 0, 0, 0, 0]);
  tape.halt(0);

  tape.place(init);
  tape.lane(1);
  tape.step('', 'register');
  options.first?.(tape);
  const ends: [number, Reg][] = [];
  const self = tape.syscall('getpid', []);
  ends.push([StreamEnd.PIDFD, tape.syscall('pidfd_open', [self, 0])]);
  if (options.stdin !== undefined) {
    const reader = tape.syscall('openat', [AT_FDCWD, options.stdin, O_NONBLOCK | O_CLOEXEC]);
    ends.push([
      StreamEnd.STDIN_WRITER,
      tape.syscall('openat', [AT_FDCWD, options.stdin, O_WRONLY | O_CLOEXEC]),
    ]);
    tape.syscall('fcntl', [reader, 4, 0]);
    tape.syscall('dup3', [reader, 0, 0]);
  }
  if (options.stdout !== undefined) {
    const reader = tape.syscall('openat', [AT_FDCWD, options.stdout, O_NONBLOCK | O_CLOEXEC]);
    const writer = tape.syscall('openat', [AT_FDCWD, options.stdout, O_WRONLY | O_CLOEXEC]);
    ends.push([StreamEnd.STDOUT_READER, reader], [StreamEnd.STDOUT_WRITER, writer]);
    tape.syscall('dup3', [writer, 1, 0]);
  }
  register(tape, token, ends);
  if (options.terminal === true) openTerminal(tape);
  if (options.exit !== undefined) tape.halt(options.exit);
  if (options.args !== undefined) {
    const texts = (list: string[]) => tape.pointers([...list.map((one) => tape.cstr(one)), null]);
    tape.syscall('execve', [options.args[0]!, texts(options.args), texts(options.env ?? [])]);
  } else {
    tape.syscall('ppoll', [0, 0, 0, 0, 0]);
  }
  return tape.assemble().image;
}

/** A tape with no clone. */
export function plainTape(write: (tape: Tape) => void): Uint8Array {
  const tape = new Tape();
  tape.step('', 'the only step');
  write(tape);
  return tape.assemble().image;
}
