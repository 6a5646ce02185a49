/**
 * The sockets of NOTIFY_SOCKET: one in the container's state folder, to which its program sends, and one that is connected to the
 * caller's service manager. The client plays this tape in its own process, keeps both, and carries READY= from the first to the second
 * (native/notify.c): the manager believes nobody but the process that it has started.
 */
import {
  AF_UNIX,
  AT_FDCWD,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  SO_SNDTIMEO,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
} from '../../linux/constants.ts';
import { encode } from '../../linux/structs.ts';
import { fieldOf } from '../../linux/structs-layout.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import { DECIMAL_BYTES } from '../../tape/format.ts';
import { readPage } from '../../tape/outcome.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import { Program } from './program.ts';

export const NOTIFY_FILE = 'notify.sock';

const FIELD = 'NOTIFY_SOCKET';
/** sockaddr_un's. */
const PATH_MAX = 108;
/** Who listens there may be of any user. */
const FOR_ALL = 0o777;
/** A manager that reads nothing must not hold up the client for ever. */
const SEND_TIMEOUT_MS = 10_000;
/** Result slots. */
const CONTAINER = 1;
const MANAGER = 2;
const REFUSAL = 3;

/** What sd_notify(3) takes: an absolute path, or @ and the name of an abstract socket. */
export function isNotifyAddress(socket: string): boolean {
  const room = socket.startsWith('/') ? PATH_MAX - 1 : PATH_MAX;
  return /^[/@]./.test(socket) && Buffer.byteLength(socket) <= room;
}

/** `folder`: of the container's socket, on the host; where it is not there nothing is made. `manager`: an isNotifyAddress. */
export function compileNotify(folder: string, manager: string): AssembledTape {
  const program = new Program();
  const { tape } = program;
  const unprepared = tape.label('unprepared');
  program.step(FIELD, `open ${folder}`);
  const place = tape.syscall('openat', [AT_FDCWD, folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0], {
    on: { ENOENT: unprepared },
  });
  const connected = connectManager(program, manager);
  const listening = listenIn(program, place);
  program.close(place);
  tape.store(listening, tape.slot(CONTAINER), 8);
  tape.store(connected, tape.slot(MANAGER), 8);
  tape.place(unprepared);
  tape.halt(0);
  return tape.assemble();
}

export interface NotifySockets {
  /** Descriptors of the process that played. */
  container: number;
  manager: number;
}

/** Of a play that went well. `errno`: nobody listens at the manager's address; undefined: the folder is not there. */
export function notifySockets(page: Uint8Array): NotifySockets | { errno: number } | undefined {
  const { slots } = readPage(page);
  const [container, manager, refusal] = [CONTAINER, MANAGER, REFUSAL].map((slot) =>
    Number(BigInt.asIntN(64, slots[slot] ?? 0n)),
  ) as [number, number, number];
  if (refusal !== 0) return { errno: -refusal };
  return container === 0 ? undefined : { container, manager };
}

function connectManager(program: Program, manager: string): Reg {
  const { tape } = program;
  program.step(FIELD, `connect to ${manager}`);
  const socket = tape.syscall('socket', [AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0]);
  // A struct timeval of whole seconds is a struct timespec of them.
  const timeout = tape.struct(encode('timespec', { tv_sec: SEND_TIMEOUT_MS / 1000 }));
  tape.syscall('setsockopt', [socket, SOL_SOCKET, SO_SNDTIMEO, timeout, timeout.length]);
  const name = Buffer.from(manager.startsWith('@') ? `\0${manager.slice(1)}` : `${manager}\0`);
  const address = tape.struct(encode('sockaddr_un', { sun_family: AF_UNIX, sun_path: name }));
  const refused = tape.label('refused');
  const connected = tape.label('connected');
  const [before] = fieldOf('sockaddr_un', 'sun_path');
  const result = tape.syscall('connect', [socket, address, before + name.length], { on: { any: refused } });
  tape.jump(connected);
  tape.place(refused);
  tape.store(result, tape.slot(REFUSAL), 8);
  program.close(socket);
  tape.halt(0);
  tape.place(connected);
  return socket;
}

/** By way of /proc: the path of the folder may be longer than a socket's can be. */
function listenIn(program: Program, folder: Reg): Reg {
  const { tape } = program;
  const prefix = '/proc/self/fd/';
  const path = Buffer.from(`${prefix}${'/'.repeat(DECIMAL_BYTES)}${NOTIFY_FILE}\0`);
  const encoded = encode('sockaddr_un', { sun_family: AF_UNIX, sun_path: path });
  const address = tape.struct(encoded);
  const [before] = fieldOf('sockaddr_un', 'sun_path');
  program.step(FIELD, 'make the socket for the container');
  tape.decimal(folder, address.at(before + prefix.length, DECIMAL_BYTES));
  const socket = tape.syscall('socket', [AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0]);
  const there = tape.label('there');
  const bound = tape.label('bound');
  tape.syscall('bind', [socket, address, encoded.bytes.length], { on: { EADDRINUSE: there } });
  tape.jump(bound);
  tape.place(there);
  removeStale(program, folder, address);
  tape.syscall('bind', [socket, address, encoded.bytes.length]);
  tape.place(bound);
  tape.syscall('fchmodat', [folder, NOTIFY_FILE, FOR_ALL]);
  return socket;
}

/** Of a start that did not come to its end. One that somebody reads is left alone, and the second bind fails. */
function removeStale(program: Program, folder: Reg, address: DataRef): void {
  const { tape } = program;
  const stale = tape.label('stale');
  const done = tape.label('in_use');
  const probe = tape.syscall('socket', [AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0]);
  tape.syscall('connect', [probe, address, address.length], { on: { ECONNREFUSED: stale } });
  tape.jump(done);
  tape.place(stale);
  tape.syscall('unlinkat', [folder, NOTIFY_FILE, 0]);
  tape.place(done);
  program.close(probe);
}
