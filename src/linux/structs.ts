/** Encoders of the structs that system calls take. Layouts: structs-layout.ts. */
import { AF_UNIX, CLONE_VM, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET } from './constants.ts';
import { type FieldName, fieldOf, type Layout, layouts, type StructName, sizeOf } from './structs-layout.ts';

/** Bytes of a struct, and where in them an address belongs. `Ref` is what the caller means by a place in memory. */
export interface EncodedStruct<Ref> {
  bytes: Uint8Array;
  pointers: readonly { offset: number; to: Ref }[];
}

/** A field's content: a number (negative: two's complement), raw bytes (zero-padded), or the address of a place. */
export type FieldValue<Ref> = number | bigint | Uint8Array | { to: Ref };

const NO_POINTERS: readonly never[] = [];

/**
 * Any struct of the table; fields that are not named are zero.
 * Throws RangeError when a value does not fit its field.
 */
export function encode<S extends StructName, Ref = never>(
  struct: S,
  values: Partial<Record<FieldName<S>, FieldValue<Ref>>>,
): EncodedStruct<Ref> {
  const { size, fields } = layouts[struct] as Layout;
  const bytes = new Uint8Array(size);
  let pointers: { offset: number; to: Ref }[] | undefined;
  for (const name in values) {
    const value = (values as Record<string, FieldValue<Ref> | undefined>)[name];
    if (value === undefined) continue;
    const field = fields[name]!;
    const offset = field[0];
    const room = field[1];
    if (typeof value === 'number' || typeof value === 'bigint') putNumber(bytes, offset, room, value, name);
    else if (value instanceof Uint8Array) {
      if (value.length > room)
        throw new RangeError(`${struct}.${name}: ${value.length} bytes do not fit into ${room}`);
      bytes.set(value, offset);
    } else {
      if (room !== 8) throw new RangeError(`${struct}.${name} cannot hold an address`);
      const pointer = { offset, to: value.to };
      if (pointers === undefined) pointers = [pointer];
      else pointers.push(pointer);
    }
  }
  return { bytes, pointers: pointers ?? NO_POINTERS };
}

function putNumber(
  bytes: Uint8Array,
  offset: number,
  size: number,
  value: number | bigint,
  name: string,
): void {
  if (typeof value === 'bigint' || !Number.isSafeInteger(value)) {
    putBig(bytes, offset, size, BigInt(value), name);
    return;
  }
  if (size < 8 && (value >= 2 ** (8 * size) || value < -(2 ** (8 * size - 1))))
    throw tooLarge(name, value, size);
  let rest = value | 0;
  for (let index = 0; index < size; index++, rest >>= 8) {
    if (index === 4) rest = Math.floor(value / 2 ** 32);
    bytes[offset + index] = rest;
  }
}

function putBig(bytes: Uint8Array, offset: number, size: number, value: bigint, name: string): void {
  const bits = BigInt(size * 8);
  if (value >= 1n << bits || value < -(1n << (bits - 1n))) throw tooLarge(name, value, size);
  let rest = BigInt.asUintN(size * 8, value);
  for (let index = 0; index < size; index++, rest >>= 8n) bytes[offset + index] = Number(rest & 0xffn);
}

function tooLarge(name: string, value: number | bigint, size: number): RangeError {
  return new RangeError(`${name}: ${value} does not fit into ${size} bytes`);
}

/** Several structs one after the other. */
export function encodeArray<Ref>(parts: readonly EncodedStruct<Ref>[]): EncodedStruct<Ref> {
  const pointers: { offset: number; to: Ref }[] = [];
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.bytes.length, 0));
  let base = 0;
  for (const part of parts) {
    for (const { offset, to } of part.pointers) pointers.push({ offset: base + offset, to });
    bytes.set(part.bytes, base);
    base += part.bytes.length;
  }
  return { bytes, pointers };
}

/**
 * clone_args of clone3(2). CLONE_VM is refused: the program counter and the registers of a tape live in memory.
 * @param pidfd where the kernel writes the pidfd (4 bytes), with CLONE_PIDFD
 */
export function cloneArgs<Ref = never>(args: {
  flags: number | bigint;
  exitSignal: number;
  pidfd?: Ref;
  cgroup?: number;
}): EncodedStruct<Ref> {
  if (BigInt(args.flags) & BigInt(CLONE_VM)) throw new RangeError('clone_args.flags: CLONE_VM in a tape');
  return encode<'clone_args', Ref>('clone_args', {
    flags: args.flags,
    exit_signal: args.exitSignal,
    pidfd: args.pidfd === undefined ? undefined : { to: args.pidfd },
    cgroup: args.cgroup,
  });
}

export function openHow(flags: number, resolve = 0, mode = 0): EncodedStruct<never> {
  return encode('open_how', { flags, mode, resolve });
}

/** Attributes to set and to clear; propagation is MS_PRIVATE and its like, or 0 for no change. */
export function mountAttr(set: number, clear = 0, propagation = 0, usernsFd = 0): EncodedStruct<never> {
  return encode('mount_attr', { attr_set: set, attr_clr: clear, propagation, userns_fd: usernsFd });
}

const LINUX_CAPABILITY_VERSION_3 = 0x20080522;

/** The first argument of capset(2), for the calling process. */
export function capHeader(): EncodedStruct<never> {
  return encode('__user_cap_header_struct', { version: LINUX_CAPABILITY_VERSION_3 });
}

/** The second argument of capset(2): sets of capabilities as bit masks (`1n << BigInt(CAP_KILL)`). */
export function capData(sets: {
  effective: bigint;
  permitted: bigint;
  inheritable: bigint;
}): EncodedStruct<never> {
  const bytes = new Uint8Array(2 * sizeOf('__user_cap_data_struct'));
  const put = (set: bigint, field: FieldName<'__user_cap_data_struct'>): void => {
    const [offset, size] = fieldOf('__user_cap_data_struct', field);
    putNumber(bytes, offset, size, Number(BigInt.asUintN(32, set)), field);
    const second = sizeOf('__user_cap_data_struct') + offset;
    putNumber(bytes, second, size, Number(BigInt.asUintN(32, set >> 32n)), field);
  };
  put(sets.effective, 'effective');
  put(sets.permitted, 'permitted');
  put(sets.inheritable, 'inheritable');
  return { bytes, pointers: NO_POINTERS };
}

/** @param count number of struct sock_filter (8 bytes each) at `filter` */
export function sockFprog<Ref>(count: number, filter: Ref): EncodedStruct<Ref> {
  return encode('sock_fprog', { len: count, filter: { to: filter } });
}

export function iovecs<Ref>(buffers: readonly { at: Ref; length: number }[]): EncodedStruct<Ref> {
  return encodeArray(
    buffers.map(({ at, length }) => encode('iovec', { iov_base: { to: at }, iov_len: length })),
  );
}

/** For sendmsg(2) and recvmsg(2). */
export function msghdr<Ref>(message: {
  iov: Ref;
  iovCount: number;
  control?: { at: Ref; length: number };
}): EncodedStruct<Ref> {
  const { iov, iovCount, control } = message;
  return encode<'msghdr', Ref>('msghdr', {
    msg_iov: { to: iov },
    msg_iovlen: iovCount,
    msg_control: control && { to: control.at },
    msg_controllen: control?.length,
  });
}

/** Where descriptor n lies in a control message of `scmRights`: 4 bytes each. */
export function scmRightsOffset(n: number): number {
  return sizeOf('cmsghdr') + n * 4;
}

/** A control message for descriptors; those not known yet are put in with STORE at `scmRightsOffset(n)`. */
export function scmRights(descriptors: readonly number[]): EncodedStruct<never> {
  const length = scmRightsOffset(descriptors.length);
  const header = encode('cmsghdr', { cmsg_len: length, cmsg_level: SOL_SOCKET, cmsg_type: SCM_RIGHTS });
  const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
  bytes.set(header.bytes);
  for (let index = 0; index < descriptors.length; index++) {
    putNumber(bytes, scmRightsOffset(index), 4, descriptors[index]!, 'descriptor');
  }
  return { bytes, pointers: NO_POINTERS };
}

/** A control message that names another process as the sender, for root; its pid is put in by STORE at `scmRightsOffset(0)`. */
export function scmCredentials(): EncodedStruct<never> {
  const length = sizeOf('cmsghdr') + sizeOf('ucred');
  const header = encode('cmsghdr', { cmsg_len: length, cmsg_level: SOL_SOCKET, cmsg_type: SCM_CREDENTIALS });
  const bytes = new Uint8Array(Math.ceil(length / 8) * 8);
  bytes.set(header.bytes);
  return { bytes, pointers: NO_POINTERS };
}

const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** -1 and 2^64-1 are both "unlimited". */
export function rlimit64(soft: bigint, hard: bigint): EncodedStruct<never> {
  const value = (limit: bigint) => (limit === -1n ? RLIM_INFINITY : limit);
  return encode('rlimit64', { rlim_cur: value(soft), rlim_max: value(hard) });
}

/** What a signal does by default, with nothing blocked meanwhile. */
export function defaultSigaction(): EncodedStruct<never> {
  return encode('sigaction', {});
}

/** For SIOCSIFFLAGS. Throws RangeError for a name of more than 15 bytes. */
export function ifreqFlags(name: string, flags: number): EncodedStruct<never> {
  const bytes = Buffer.from(name);
  if (bytes.length > 15) throw new RangeError(`interface name ${name} is longer than 15 bytes`);
  return encode('ifreq', { ifr_name: bytes, ifr_flags: flags });
}

/** A socket's path, without a terminating zero where it fills all 108 bytes; '\0' first means the abstract namespace. */
export function sockaddrUn(path: string): EncodedStruct<never> {
  return encode('sockaddr_un', { sun_family: AF_UNIX, sun_path: Buffer.from(path) });
}

export function timespec(milliseconds: number): EncodedStruct<never> {
  return encode('timespec', {
    tv_sec: Math.floor(milliseconds / 1000),
    tv_nsec: Math.round((milliseconds % 1000) * 1_000_000),
  });
}

export function winsize(rows: number, cols: number): EncodedStruct<never> {
  return encode('winsize', { ws_row: rows, ws_col: cols });
}
