/** Sockets of the host that a tape connects to, and messages that carry one descriptor (unix(7)). */
import { WherryError } from '../../errors.ts';
import { AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_STREAM } from '../../linux/constants.ts';
import { iovecs, msghdr, scmRights, scmRightsOffset, sockaddrUn } from '../../linux/structs.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

/** sockaddr_un's path, its NUL included. */
const SOCKET_PATH_MAX = 108;

/** @throws WherryError invalid-argument: `path` is too long for a socket; `field` names who gave it */
export function checkSocketPath(path: string, field: string): void {
  const length = Buffer.byteLength(path);
  if (length < SOCKET_PATH_MAX) return;
  throw new WherryError(
    'invalid-argument',
    `${field}: expected a path of at most ${SOCKET_PATH_MAX - 1} bytes, found ${length}`,
    { path: field, hint: 'use a shorter path, or a symbolic link to the folder' },
  );
}

/** In the current step. `path`: checked by checkSocketPath. */
export function connectTo(program: Program, path: string): Reg {
  const { tape } = program;
  const socket = tape.syscall('socket', [AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0]);
  const address = sockaddrUn(path);
  tape.syscall('connect', [socket, tape.struct(address), address.bytes.length]);
  return socket;
}

/** A msghdr of some bytes and one descriptor. */
export function messageWith(
  program: Program,
  content: { at: DataRef; length: number },
  descriptor: Reg,
): DataRef {
  const { tape } = program;
  const rights = scmRights([-1]);
  const control = tape.struct(rights);
  tape.store(descriptor, control.at(scmRightsOffset(0), 4), 4);
  return tape.struct(
    msghdr({
      iov: tape.struct(iovecs([content])),
      iovCount: 1,
      control: { at: control, length: rights.bytes.length },
    }),
  );
}

/** Sends `text` and the descriptor over a connected socket; both stay open. */
export function sendDescriptor(program: Program, socket: Reg, text: string, descriptor: Reg): void {
  const bytes = Buffer.from(text);
  const message = messageWith(program, { at: program.tape.bytes(bytes), length: bytes.length }, descriptor);
  program.tape.syscall('sendmsg', [socket, message, MSG_NOSIGNAL]);
}
