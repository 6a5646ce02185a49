/**
 * rtnetlink(7) messages as bytes, for tapes to send, and what wherryd itself asks of the kernel before: a device's number and its
 * addresses. The two questions are sent on libuv's pool, as the kernel may hold its network lock for a while.
 */
import { AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET } from './constants.ts';
import { inPool, type KoffiFunc, libc } from './library.ts';

export const NETLINK_ROUTE = 0;
export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_DUMP = 0x300;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const RTM_NEWLINK = 16;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_GETADDR = 22;
export const IFLA_IFNAME = 3;
export const IFLA_NET_NS_FD = 28;
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_BROADCAST = 4;
export const IFA_FLAGS = 8;
export const IFA_RT_PRIORITY = 9;
export const IFA_F_PERMANENT = 0x80;
export const IFA_F_TENTATIVE = 0x40;
export const IFA_F_DADFAILED = 8;
export const RT_SCOPE_UNIVERSE = 0;

/** struct nlmsghdr. */
export const HEADER_BYTES = 16;
/** Where the kernel's answer to NLM_F_ACK has its errno, negative: behind the header of NLMSG_ERROR. */
export const ACK_ERROR_AT = HEADER_BYTES;
/** struct ifinfomsg and struct ifaddrmsg: where the device's number stands, counted from the message's start. */
export const LINK_INDEX_AT = HEADER_BYTES + 4;
export const ADDRESS_INDEX_AT = HEADER_BYTES + 4;
const LINK_BYTES = 16;
const ADDRESS_BYTES = 8;
const ATTRIBUTE_BYTES = 4;

/** One attribute, padded to four bytes (struct rtattr). */
export function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((ATTRIBUTE_BYTES + value.length + 3) & ~3);
  bytes.writeUInt16LE(ATTRIBUTE_BYTES + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, ATTRIBUTE_BYTES);
  return bytes;
}

export const textValue = (text: string): Buffer => Buffer.from(`${text}\0`);

export function numberValue(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

/** nlmsghdr and what follows it. */
export function message(type: number, flags: number, body: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + body.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(1, 8);
  return Buffer.concat([header, body]);
}

/** struct ifinfomsg; `change` says which of `flags` count. */
export function linkBody(index: number, flags = 0, change = 0): Buffer {
  const body = Buffer.alloc(LINK_BYTES);
  body.writeInt32LE(index, 4);
  body.writeUInt32LE(flags, 8);
  body.writeUInt32LE(change, 12);
  return body;
}

export interface NetAddress {
  /** AF_INET, AF_INET6. */
  family: number;
  prefix: number;
  /** IFA_ADDRESS and its kin as they were, padded: the label is left out, as it bears the old name. */
  attributes: Uint8Array;
}

export interface NetDevice {
  index: number;
  /** Permanent ones of global scope. */
  addresses: NetAddress[];
}

export function addressBody(address: NetAddress, index: number): Buffer {
  const body = Buffer.alloc(ADDRESS_BYTES);
  body.writeUInt8(address.family, 0);
  body.writeUInt8(address.prefix, 1);
  body.writeUInt8(RT_SCOPE_UNIVERSE, 3);
  body.writeUInt32LE(index, 4);
  return Buffer.concat([body, address.attributes]);
}

/** Cuts `bytes` into its messages; a damaged end is left out. */
export function* messages(bytes: Buffer): Generator<{ type: number; body: Buffer }> {
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > bytes.length) return;
    yield { type: bytes.readUInt16LE(at + 4), body: bytes.subarray(at + HEADER_BYTES, at + length) };
    at += (length + 3) & ~3;
  }
}

function* attributesOf(bytes: Buffer): Generator<{ type: number; value: Buffer }> {
  for (let at = 0; at + ATTRIBUTE_BYTES <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_BYTES || at + length > bytes.length) return;
    yield { type: bytes.readUInt16LE(at + 2), value: bytes.subarray(at + ATTRIBUTE_BYTES, at + length) };
    at += (length + 3) & ~3;
  }
}

const keptAttributes = new Set([IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY]);
/** What the kernel says of an address rather than its owner. */
const stateFlags = IFA_F_PERMANENT | IFA_F_TENTATIVE | IFA_F_DADFAILED;

/** An RTM_NEWADDR of a dump; undefined: another device's, or one that does not go with the device. */
export function parseAddress(body: Buffer, index: number): NetAddress | undefined {
  if (body.length < ADDRESS_BYTES || body.readUInt32LE(4) !== index) return undefined;
  let flags = body.readUInt8(2);
  const kept: Buffer[] = [];
  for (const { type, value } of attributesOf(body.subarray(ADDRESS_BYTES))) {
    if (type === IFA_FLAGS && value.length === 4) flags = value.readUInt32LE(0);
    else if (keptAttributes.has(type)) kept.push(attribute(type, value));
  }
  if ((flags & IFA_F_PERMANENT) === 0 || body.readUInt8(3) !== RT_SCOPE_UNIVERSE) return undefined;
  kept.push(attribute(IFA_FLAGS, numberValue(flags & ~stateFlags)));
  return { family: body.readUInt8(0), prefix: body.readUInt8(1), attributes: Buffer.concat(kept) };
}

const SO_RCVTIMEO = 20;
const TIMEOUT_SECONDS = 10;
const ANSWER_BYTES = 64 * 1024;

interface Calls {
  socket: KoffiFunc<(domain: number, type: number, protocol: number) => number>;
  setsockopt: KoffiFunc<(fd: number, level: number, name: number, value: Uint8Array, size: number) => number>;
  send: KoffiFunc<(fd: number, bytes: Uint8Array, length: number, flags: number) => number>;
  recv: KoffiFunc<(fd: number, into: Uint8Array, length: number, flags: number) => number>;
  close: KoffiFunc<(fd: number) => number>;
}

let calls: Calls | undefined;

function load(): Calls {
  const library = libc();
  calls ??= {
    socket: library.func('int socket(int, int, int)'),
    setsockopt: library.func('int setsockopt(int, int, int, void *, int)'),
    send: library.func('long send(int, void *, long, int)'),
    recv: library.func('long recv(int, void *, long, int)'),
    close: library.func('int close(int)'),
  };
  return calls;
}

/** A device of this process's network namespace; undefined: there is none of this name. Rejects when the kernel does not answer. */
export async function readNetDevice(name: string): Promise<NetDevice | undefined> {
  const { socket, setsockopt, close } = load();
  const descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (descriptor < 0) throw new Error('cannot make a netlink socket');
  try {
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(BigInt(TIMEOUT_SECONDS));
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
    const link = Buffer.concat([linkBody(0), attribute(IFLA_IFNAME, textValue(name))]);
    await say(descriptor, message(RTM_GETLINK, NLM_F_REQUEST, link));
    const [answer] = messages(await hear(descriptor));
    if (answer?.type !== RTM_NEWLINK) return undefined;
    const index = answer.body.readInt32LE(4);
    await say(
      descriptor,
      message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, addressBody({ ...anyAddress }, 0)),
    );
    const addresses: NetAddress[] = [];
    for (;;) {
      for (const { type, body } of messages(await hear(descriptor))) {
        if (type === NLMSG_DONE) return { index, addresses };
        if (type === NLMSG_ERROR) throw new Error('the kernel does not list the addresses');
        const address = type === RTM_NEWADDR ? parseAddress(body, index) : undefined;
        if (address !== undefined) addresses.push(address);
      }
    }
  } finally {
    close(descriptor);
  }
}

const anyAddress: NetAddress = { family: 0, prefix: 0, attributes: new Uint8Array() };

async function say(descriptor: number, bytes: Buffer): Promise<void> {
  const sent = await inPool<number>((done) => load().send.async(descriptor, bytes, bytes.length, 0, done));
  if (Number(sent) !== bytes.length) throw new Error('the kernel takes no netlink message');
}

async function hear(descriptor: number): Promise<Buffer> {
  const bytes = Buffer.alloc(ANSWER_BYTES);
  const length = await inPool<number>((done) => load().recv.async(descriptor, bytes, bytes.length, 0, done));
  if (length <= 0) throw new Error('the kernel gives no answer over netlink');
  return bytes.subarray(0, length);
}
