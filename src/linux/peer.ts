/** Who is at the other end of a Unix socket: unix(7), SO_PEERCRED. */
import type { Socket } from 'node:net';
import { SO_PEERCRED, SOL_SOCKET } from './constants.ts';
import { libc } from './library.ts';

/** struct ucred: pid, uid, gid, 4 bytes each. */
const UCRED_SIZE = 12;
const UID_AT = 4;

type GetSockOpt = (
  descriptor: number,
  level: number,
  option: number,
  value: Uint8Array,
  length: Uint8Array,
) => number;
let getSockOpt: GetSockOpt | undefined;

/** The uid that connected; undefined: the kernel does not say. */
export function peerUid(socket: Socket): number | undefined {
  // Node has no other name for a socket's descriptor.
  const descriptor = (socket as Socket & { _handle?: { fd?: number } | null })._handle?.fd ?? -1;
  getSockOpt ??= libc().func('int getsockopt(int, int, int, void *, void *)');
  const value = Buffer.alloc(UCRED_SIZE);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(UCRED_SIZE);
  const result = getSockOpt(descriptor, SOL_SOCKET, SO_PEERCRED, value, length);
  return result === 0 ? value.readUInt32LE(UID_AT) : undefined;
}
