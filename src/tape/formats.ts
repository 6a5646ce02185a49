/** How the arguments of each system call are shown: one table, a format an argument, as the manual pages list them. */
import type { Arch } from '../linux/arch.ts';
import { BPF_PROG_ATTACH, BPF_PROG_GET_FD_BY_ID, BPF_PROG_LOAD, BPF_PROG_QUERY } from '../linux/bpf.ts';
import {
  FSCONFIG_SET_STRING,
  PR_CAP_AMBIENT,
  PR_CAP_AMBIENT_CLEAR_ALL,
  PR_CAPBSET_DROP,
  PR_CAPBSET_READ,
  SIOCSIFFLAGS,
  TIOCGPTPEER,
  TIOCSWINSZ,
} from '../linux/constants.ts';
import { fieldOf, layouts, type StructName } from '../linux/structs-layout.ts';
import type { SyscallName } from '../linux/syscalls.ts';
import { Kind } from './format.ts';
import type { Image, ImageArg } from './image.ts';
import {
  capabilitiesOf,
  capabilityOf,
  deviceOf,
  flagsOf,
  modeOf,
  number,
  octal,
  oneOf,
  openFlagsOf,
  signalTable,
  table,
} from './names.ts';

export interface FormatContext {
  image: Image;
  /** All arguments of the call. */
  args: readonly ImageArg[];
  /** How much of long lists is shown. */
  limit: number;
}

export type Format = (arg: ImageArg, context: FormatContext) => string;

/** Registers and addresses look the same everywhere; a format sees what is left: numbers, or data that it understands. */
export function operand({ kind, value }: ImageArg): string {
  if (kind === Kind.REGISTER) return `r${value}`;
  if (kind === Kind.DATA) return `data+${value}`;
  if (kind === Kind.SHARED)
    return value >= 128n && value % 8n === 0n ? `slot[${(value - 128n) / 8n}]` : `page+${value}`;
  return number(value);
}

function value(show: (value: bigint, arch: Arch, context: FormatContext) => string): Format {
  return (arg, context) =>
    arg.kind === Kind.IMMEDIATE ? show(arg.value, context.image.arch, context) : operand(arg);
}

function data(show: (offset: number, context: FormatContext) => string): Format {
  return (arg, context) => {
    if (arg.kind === Kind.IMMEDIATE && arg.value === 0n) return 'NULL';
    return arg.kind === Kind.DATA ? show(Number(arg.value), context) : operand(arg);
  };
}

const num = value(number);
/** 32 bits with a sign: uid -1, descriptor -1. */
const int = value((v) => BigInt.asIntN(32, v).toString());
const oct = value(octal);
const mode = value(modeOf);
const dev = value(deviceOf);
const fd = value((v) => (BigInt.asIntN(32, v) === -100n ? 'AT_FDCWD' : BigInt.asIntN(32, v).toString()));
const openFlags = value(openFlagsOf);
const out = data((offset) => `data+${offset}`);
const flags = (...names: string[]): Format => {
  const named = table(...names);
  return value((v) => flagsOf(named, v));
};
const one = (...names: string[]): Format => {
  const named = table(...names);
  return value((v) => oneOf(named, v));
};
const signal = value((v) => oneOf(signalTable, v));

const cstr = data((offset, { image, limit }) => quote(textAt(image.data, offset), limit));

/** A buffer whose length is the next argument. */
const buffer = (lengthIndex: number): Format =>
  data((offset, { image, args, limit }) => {
    const length = args[lengthIndex];
    if (length?.kind !== Kind.IMMEDIATE) return `data+${offset}`;
    const bytes = image.data.subarray(offset, offset + Number(length.value));
    return isText(bytes) ? quote(bytes.toString(), limit) : `data+${offset}`;
  });

/** A register that is set to a text, else as `operand`. */
export const textOrOperand: Format = (arg, context) => {
  if (arg.kind !== Kind.DATA) return operand(arg);
  const text = textAt(context.image.data, Number(arg.value));
  return isText(Buffer.from(text)) ? quote(text, context.limit) : operand(arg);
};

/** A NULL-terminated array of texts. */
const bpfCommands: ReadonlyMap<number, string> = new Map([
  [BPF_PROG_LOAD, 'BPF_PROG_LOAD'],
  [BPF_PROG_ATTACH, 'BPF_PROG_ATTACH'],
  [BPF_PROG_GET_FD_BY_ID, 'BPF_PROG_GET_FD_BY_ID'],
  [BPF_PROG_QUERY, 'BPF_PROG_QUERY'],
]);

const strings = data((offset, { image, limit }) => {
  const texts: string[] = [];
  let at = offset;
  for (; image.pointers.has(at); at += 8)
    texts.push(quote(textAt(image.data, pointerAt(image.data, at)), limit));
  return list(texts, limit);
});

const u32s = (countIndex: number): Format =>
  data((offset, { image, args, limit }) => {
    const claimed = Number(args[countIndex]?.value ?? 0n);
    const count = Math.min(claimed, Math.floor((image.data.length - offset) / 4));
    const values = Array.from({ length: count }, (_, index) =>
      readNumber(image.data, offset + index * 4, 4).toString(),
    );
    return list(values, limit);
  });

/** A struct's fields that are not zero, with formats for some. */
function struct(name: StructName, formats: Record<string, Format> = {}): Format {
  return data((offset, context) => {
    const shown: string[] = [];
    for (const [field, [at, size]] of Object.entries(layouts[name].fields)) {
      const pointer = size === 8 && context.image.pointers.has(offset + at);
      const content = readNumber(context.image.data, offset + at, Math.min(size, 8));
      if (content === 0n && !pointer) continue;
      const arg = { kind: pointer ? Kind.DATA : Kind.IMMEDIATE, value: content };
      shown.push(`${field}: ${(formats[field] ?? num)(arg, context)}`);
    }
    return `{${shown.join(', ')}}`;
  });
}

const capabilities = data((offset, { image }) => {
  const set = (field: number) =>
    readNumber(image.data, offset + field, 4) | (readNumber(image.data, offset + 12 + field, 4) << 32n);
  const sets = { effective: set(0), permitted: set(4), inheritable: set(8) };
  const shown = Object.entries(sets).map(([name, caps]) => `${name}: ${capabilitiesOf(caps)}`);
  return `{${shown.join(', ')}}`;
});

const fsconfigValue: Format = (arg, context) =>
  context.args[1]?.value === BigInt(FSCONFIG_SET_STRING) ? cstr(arg, context) : operandOrNull(arg);

const prctlArgument: Format = (arg, context) => {
  const option = context.args[0]?.value;
  if (arg.kind === Kind.IMMEDIATE && option !== undefined) {
    if (option === BigInt(PR_CAP_AMBIENT)) {
      if (arg === context.args[1]) return oneOf(ambientTable, arg.value);
      const all = context.args[1]?.value === BigInt(PR_CAP_AMBIENT_CLEAR_ALL);
      if (arg === context.args[2] && !all) return capabilityOf(arg.value);
    }
    const bounding = option === BigInt(PR_CAPBSET_DROP) || option === BigInt(PR_CAPBSET_READ);
    if (bounding && arg === context.args[1]) return capabilityOf(arg.value);
  }
  return operand(arg);
};
const ambientTable = table('PR_CAP_AMBIENT_');
const prctlTable = table('PR_').filter(([name]) => !/^PR_(CAP_AMBIENT|SCHED_CORE)_/.test(name));

const fcntlArgument: Format = (arg, context) => {
  const command = fcntlCommand(context.args[1] ?? arg, context);
  if (command === 'F_SETFD') return fdFlags(arg, context);
  if (command === 'F_SETFL') return openFlags(arg, context);
  if (command === 'F_ADD_SEALS') return seals(arg, context);
  return operand(arg);
};
const fcntlCommand = one(
  'F_DUPFD',
  'F_GETFD',
  'F_SETFD',
  'F_GETFL',
  'F_SETFL',
  'F_DUPFD_CLOEXEC',
  'F_SETPIPE_SZ',
  'F_GETPIPE_SZ',
  'F_ADD_SEALS',
  'F_GET_SEALS',
);
const fdFlags = flags('FD_CLOEXEC');
const seals = flags('F_SEAL_');

const ioctlRequest = one(
  'TIOCSCTTY',
  'TIOCNOTTY',
  'TIOCGPTN',
  'TIOCSPTLCK',
  'TIOCGPTPEER',
  'TIOCGWINSZ',
  'TIOCSWINSZ',
  'TCGETS',
  'TCSETS',
  'SIOCGIFFLAGS',
  'SIOCSIFFLAGS',
  'SIOCGIFINDEX',
  'NS_GET_USERNS',
);
const interfaceFlags = data((offset, { image, limit }) => {
  const flagBits = readNumber(image.data, offset + fieldOf('ifreq', 'ifr_flags')[0], 2);
  return `{ifr_name: ${quote(textAt(image.data, offset), limit)}, ifr_flags: ${flagsOf(interfaceTable, flagBits)}}`;
});
const interfaceTable = table('IFF_');
const ioctlArgument: Format = (arg, context) => {
  const request = context.args[1]?.value;
  if (request === BigInt(SIOCSIFFLAGS)) return interfaceFlags(arg, context);
  if (request === BigInt(TIOCSWINSZ)) return windowSize(arg, context);
  if (request === BigInt(TIOCGPTPEER)) return openFlags(arg, context);
  return operand(arg);
};
const windowSize = struct('winsize');

const clone = flags('CLONE_');
const atFlags = flags('AT_SYMLINK_NOFOLLOW', 'AT_EMPTY_PATH', 'AT_NO_AUTOMOUNT', 'AT_SYMLINK_FOLLOW');
const mountFlags = flags('MS_');
const attributes = flags('MOUNT_ATTR_');
const domain = one('AF_');
const socketType = value((v) => {
  const type = oneOf(socketTypes, v & 0xfn);
  const extra = v & ~0xfn;
  return extra === 0n ? type : `${type}|${flagsOf(socketFlags, extra)}`;
});
const socketTypes = table('SOCK_').filter(([, bits]) => bits < 16n);
const socketFlags = table('SOCK_NONBLOCK', 'SOCK_CLOEXEC');
const limits = table('RLIMIT_');
const rlimit = value((v) => (v === 0xffff_ffff_ffff_ffffn ? 'unlimited' : v.toString()));
const messageFlags = flags('MSG_');

export const formats: Partial<Record<SyscallName, readonly Format[]>> = {
  bpf: [value((v) => bpfCommands.get(Number(v)) ?? v.toString()), num, num],
  capset: [struct('__user_cap_header_struct'), capabilities],
  chdir: [cstr],
  chroot: [cstr],
  clone3: [struct('clone_args', { flags: clone, exit_signal: signal }), num],
  close_range: [
    fd,
    value((v) => (BigInt.asUintN(32, v) === 0xffffffffn ? 'max' : v.toString())),
    flags('CLOSE_RANGE_'),
  ],
  connect: [fd, struct('sockaddr_un', { sun_family: domain, sun_path: num }), num],
  dup3: [fd, fd, openFlagsOrZero()],
  execve: [cstr, strings, strings],
  execveat: [fd, cstr, strings, strings, atFlags],
  faccessat2: [
    fd,
    cstr,
    flags('X_OK', 'W_OK', 'R_OK'),
    flags('AT_EACCESS', 'AT_SYMLINK_NOFOLLOW', 'AT_EMPTY_PATH'),
  ],
  fchmod: [fd, oct],
  fchmodat: [fd, cstr, oct],
  fchown: [fd, int, int],
  fchownat: [fd, cstr, int, int, atFlags],
  fcntl: [fd, fcntlCommand, fcntlArgument],
  flock: [fd, flags('LOCK_')],
  fsconfig: [fd, one('FSCONFIG_'), cstr, fsconfigValue, fd],
  fsetxattr: [fd, cstr, cstr],
  fsmount: [fd, flags('FSMOUNT_'), attributes],
  fsopen: [cstr, flags('FSOPEN_')],
  fspick: [fd, cstr, flags('FSPICK_')],
  ioctl: [fd, ioctlRequest, ioctlArgument],
  ioprio_set: [one('IOPRIO_WHO_'), num, num],
  keyctl: [one('KEYCTL_'), cstr],
  kill: [int, signal],
  linkat: [fd, cstr, fd, cstr, atFlags],
  memfd_create: [cstr, flags('MFD_')],
  mkdirat: [fd, cstr, oct],
  mknodat: [fd, cstr, mode, dev],
  mount: [cstr, cstr, cstr, mountFlags, cstr],
  mount_setattr: [
    fd,
    cstr,
    flags('AT_EMPTY_PATH', 'AT_RECURSIVE', 'AT_SYMLINK_NOFOLLOW', 'AT_NO_AUTOMOUNT'),
    struct('mount_attr', { attr_set: attributes, attr_clr: attributes, propagation: mountFlags }),
    num,
  ],
  move_mount: [fd, cstr, fd, cstr, flags('MOVE_MOUNT_')],
  open_tree: [
    fd,
    cstr,
    flags(
      'OPEN_TREE_CLONE',
      'OPEN_TREE_CLOEXEC',
      'AT_EMPTY_PATH',
      'AT_RECURSIVE',
      'AT_SYMLINK_NOFOLLOW',
      'AT_NO_AUTOMOUNT',
    ),
  ],
  openat: [fd, cstr, openFlags, oct],
  openat2: [fd, cstr, struct('open_how', { flags: openFlags, mode: oct, resolve: flags('RESOLVE_') }), num],
  pidfd_send_signal: [fd, signal],
  pipe2: [out, openFlagsOrZero()],
  pivot_root: [cstr, cstr],
  prctl: [value((v) => oneOf(prctlTable, v)), prctlArgument, prctlArgument, prctlArgument, prctlArgument],
  prlimit64: [
    int,
    value((v) => oneOf(limits, v)),
    struct('rlimit64', { rlim_cur: rlimit, rlim_max: rlimit }),
    struct('rlimit64'),
  ],
  pwrite64: [fd, buffer(2), num, num],
  readlinkat: [fd, cstr, out, num],
  recvmsg: [fd, out, messageFlags],
  renameat2: [fd, cstr, fd, cstr, flags('RENAME_')],
  rt_sigaction: [signal, struct('sigaction'), out, num],
  rt_sigprocmask: [one('SIG_BLOCK', 'SIG_UNBLOCK', 'SIG_SETMASK')],
  sched_setattr: [int, struct('sched_attr')],
  seccomp: [one('SECCOMP_SET_MODE_FILTER'), flags('SECCOMP_FILTER_FLAG_'), struct('sock_fprog')],
  sendmsg: [fd, struct('msghdr'), messageFlags],
  setdomainname: [buffer(1), num],
  setgroups: [num, u32s(0)],
  sethostname: [buffer(1), num],
  setns: [fd, clone],
  setpriority: [one('PRIO_'), int, int],
  setresgid: [int, int, int],
  setresuid: [int, int, int],
  socket: [domain, socketType, num],
  socketpair: [domain, socketType, num, out],
  statx: [fd, cstr, atFlags, flags('STATX_'), out],
  symlinkat: [cstr, fd, cstr],
  umask: [oct],
  umount2: [cstr, flags('MNT_', 'UMOUNT_')],
  unlinkat: [fd, cstr, flags('AT_REMOVEDIR')],
  unshare: [clone],
  wait4: [int, out, flags('WNOHANG', 'WUNTRACED', 'WCONTINUED', '__WALL')],
  waitid: [one('P_ALL', 'P_PID', 'P_PGID', 'P_PIDFD'), int, out, flags('WNOHANG', 'WEXITED', 'WNOWAIT')],
  write: [fd, buffer(2), num],
};

/** For calls that take some flags of open(2) but no access mode. */
function openFlagsOrZero(): Format {
  return value((v, arch) => (v === 0n ? '0' : openFlagsOf(v, arch).replace('O_RDONLY|', '')));
}

function operandOrNull(arg: ImageArg): string {
  return arg.kind === Kind.IMMEDIATE && arg.value === 0n ? 'NULL' : operand(arg);
}

/** A little-endian number; what lies outside of the data reads as zero. */
function readNumber(from: Buffer, at: number, size: number): bigint {
  let result = 0n;
  for (let index = size - 1; index >= 0; index--) result = (result << 8n) | BigInt(from[at + index] ?? 0);
  return result;
}

function pointerAt(from: Buffer, at: number): number {
  return Number(readNumber(from, at, 8));
}

function textAt(from: Buffer, at: number): string {
  const end = from.indexOf(0, at);
  return from.toString('utf8', at, end === -1 ? from.length : end);
}

function isText(bytes: Buffer): boolean {
  return bytes.length > 0 && bytes.every((byte) => (byte >= 32 && byte !== 127) || byte === 10 || byte === 9);
}

function quote(text: string, limit: number): string {
  const longest = limit * 10;
  return JSON.stringify(text.length > longest ? `${text.slice(0, longest)}…` : text);
}

function list(items: readonly string[], limit: number): string {
  const shown = items.slice(0, limit);
  if (items.length > limit) shown.push(`… ${items.length - limit} more`);
  return `[${shown.join(', ')}]`;
}
