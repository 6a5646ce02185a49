/**
 * linux.netDevices: devices of the host move into the container's network namespace, with a new name and the addresses that they had
 * (rtnetlink(7)). The player moves them, as only it has rights over the host's network; the init gives them back what the kernel takes
 * from a device that moves.
 */
import {
  AF_NETLINK,
  IFF_UP,
  O_CLOEXEC,
  O_RDONLY,
  SIOCGIFINDEX,
  SOCK_CLOEXEC,
  SOCK_RAW,
} from '../../linux/constants.ts';
import type { ErrnoName } from '../../linux/errno.ts';
import {
  ACK_ERROR_AT,
  ADDRESS_INDEX_AT,
  addressBody,
  attribute,
  HEADER_BYTES,
  IFLA_IFNAME,
  IFLA_NET_NS_FD,
  LINK_INDEX_AT,
  linkBody,
  message,
  NETLINK_ROUTE,
  type NetDevice,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  numberValue,
  RTM_NEWADDR,
  RTM_NEWLINK,
  textValue,
} from '../../linux/netlink.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import { formatPath } from '../../oci/problems.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import { failByValue } from './fail-by-value.ts';
import type { Program } from './program.ts';

export interface NetDevicePlan extends NetDevice {
  /** Of the host. */
  from: string;
  /** In the container. */
  to: string;
}

const errnos: readonly ErrnoName[] = [
  'EEXIST',
  'EPERM',
  'ENODEV',
  'EINVAL',
  'EBUSY',
  'EOPNOTSUPP',
  'ENFILE',
  'ENOMEM',
  'EADDRNOTAVAIL',
  'EACCES',
];
const ANSWER_BYTES = 4096;

/** In the player, while it has the rights of the host. `namespace` is a descriptor of the container's network namespace. */
export function moveNetDevices(program: Program, devices: readonly NetDevicePlan[], namespace: Reg): void {
  const socket = openSocket(program);
  for (const { from, to, index } of devices) {
    program.step(place(from), from === to ? `move ${from} into the container` : `move ${from}, as ${to}`);
    const body = Buffer.concat([
      linkBody(index),
      attribute(IFLA_NET_NS_FD, numberValue(0)),
      attribute(IFLA_IFNAME, textValue(to)),
    ]);
    const bytes = program.tape.bytes(message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, body));
    // The first attribute's value, behind nlmsghdr, ifinfomsg and the attribute's own header.
    program.tape.store(namespace, bytes.at(HEADER_BYTES + linkBody(0).length + 4, 4), 4);
    ask(program, socket, bytes);
  }
  program.close(socket);
}

/** In the init, in its network namespace: the kernel has taken the devices down and forgotten their addresses. */
export function setUpNetDevices(program: Program, devices: readonly NetDevicePlan[]): void {
  const { tape } = program;
  const socket = openSocket(program);
  for (const { from, to, addresses } of devices) {
    program.step(place(from), `give ${to} its addresses and bring it up`);
    const request = Buffer.alloc(sizeOf('ifreq'));
    request.write(to);
    const named = tape.bytes(request);
    tape.syscall('ioctl', [socket, SIOCGIFINDEX, named]);
    // A joined namespace may have had another device with the old number.
    const index = tape.load(named.at(fieldOf('ifreq', 'ifr_ifindex')[0], 4), 4);
    for (const address of addresses) {
      const flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
      const bytes = tape.bytes(message(RTM_NEWADDR, flags, addressBody(address, 0)));
      tape.store(index, bytes.at(ADDRESS_INDEX_AT, 4), 4);
      ask(program, socket, bytes);
    }
    const up = tape.bytes(message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, linkBody(0, IFF_UP, IFF_UP)));
    tape.store(index, up.at(LINK_INDEX_AT, 4), 4);
    ask(program, socket, up);
  }
  program.close(socket);
}

/** The network namespace of a process whose folder of /proc is open. */
export function openNetwork(program: Program, process: Reg): Reg {
  program.step('linux.netDevices', "open the container's network namespace");
  return program.tape.syscall('openat', [process, 'ns/net', O_RDONLY | O_CLOEXEC, 0]);
}

function openSocket(program: Program): Reg {
  program.step('linux.netDevices', 'open a netlink socket');
  return program.tape.syscall('socket', [AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE]);
}

/** Sends one message; the kernel's answer is there when the call returns. */
function ask(program: Program, socket: Reg, bytes: DataRef): void {
  const { tape } = program;
  tape.syscall('sendto', [socket, bytes, bytes.length, 0, 0, 0]);
  const answer = tape.space(ANSWER_BYTES);
  tape.syscall('recvfrom', [socket, answer, ANSWER_BYTES, 0, 0, 0]);
  const error = tape.load(answer.at(ACK_ERROR_AT, 4), 4);
  const done = tape.label('acknowledged');
  tape.jumpIfEqual(error, 0, done);
  failByValue(program, error, errnos, (errno) => 2 ** 32 - errno);
  tape.place(done);
}

const place = (name: string): string => formatPath(['linux', 'netDevices', name]);
