/**
 * The conversation with criu as part of a tape: `criu swrk` on one end of a SEQPACKET pair, the player on the other. criu tells what
 * it is about to do, and goes on when it is answered; what has to be done in between are a few known acts. As everything that is said is
 * bounded, no loop is needed, and nobody but the player: a checkpoint that has begun ends well without wherryd.
 */
import {
  AF_UNIX,
  CLONE_PARENT,
  CLONE_PIDFD,
  F_DUPFD_CLOEXEC,
  MSG_CMSG_CLOEXEC,
  MSG_NOSIGNAL,
  MSG_PEEK,
  POLLIN,
  SEEK_CUR,
  SIGCHLD,
  SOCK_CLOEXEC,
  SOCK_SEQPACKET,
} from '../../linux/constants.ts';
import { USUAL_PATH } from '../../linux/program-path.ts';
import { cloneArgs, encode, iovecs, msghdr, scmRights, scmRightsOffset } from '../../linux/structs.ts';
import type { Reg } from '../../tape/refs.ts';
import { encodeGoOn, RequestType } from '../criu/message.ts';
import { memoryFile } from './hooks.ts';
import type { Program } from './program.ts';

/** Result slots: how long criu's last answer is, and its first bytes. */
export const AnswerSlot = { LENGTH: 1, BYTES: 2 } as const;
/** Up to the slots of hooks. */
export const ANSWER_BYTES = (40 - AnswerSlot.BYTES) * 8;

/** Descriptors that a request names, in the player: far above those that calls give out. */
export const IMAGES_FD = 400;
export const WORK_FD = 401;
/** In criu's own process. */
const SOCKET_FD = 3;
export const FIRST_INHERITED_FD = 4;
/** Where descriptors wait until they are put in their places. */
const ABOVE = 300;

/** A dump tells of at most six things, a restore of seven, and of each terminal. */
const ROUNDS = 24;
/** criu has answered, so it is about to end. */
const END_SECONDS = 10;
const LANE = 1;

export interface Criu {
  /** Absolute path of the program. */
  program: string;
  request: Uint8Array;
  /** CLONE_PARENT: what is restored becomes a child of whoever spawned the player. */
  sibling: boolean;
  /** In the child, before descriptors are placed: cgroups, namespaces. */
  prepare?: () => void;
  /** Descriptors for criu: number there → register. */
  descriptors: ReadonlyMap<number, Reg>;
  on: {
    /** The init is restored and stands still. */
    restored?: (pid: Reg) => void;
    /** The restored namespaces are there, the mounts are not. */
    namespaces?: (pid: Reg) => void;
    /** The master of a terminal that was open outside. */
    terminal?: (master: Reg) => void;
    /** The server for lazy pages listens. */
    ready?: () => void;
  };
}

/** Runs criu to its answer, which is then in the answer slots; afterwards criu has ended. */
export function converse(program: Program, criu: Criu): void {
  const { tape } = program;
  program.step('', `start ${criu.program}`);
  const pair = tape.space(8);
  tape.syscall('socketpair', [AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair]);
  const ours = tape.load(pair.at(0, 4), 4);
  const theirs = tape.load(pair.at(4, 4), 4);
  const pidfd = start(program, criu, ours, theirs);
  program.close(theirs);
  program.step('', 'send criu its request');
  tape.syscall('sendto', [ours, tape.bytes(criu.request), criu.request.length, MSG_NOSIGNAL, 0, 0]);

  const answered = tape.label('answered');
  const goOn = encodeGoOn();
  const answer = tape.bytes(goOn);
  for (let round = 0; round < ROUNDS; round++) {
    program.step('', 'hear what criu says');
    const heard = tape.label('heard');
    const bytes = tape.slot(AnswerSlot.BYTES);
    const length = tape.syscall('recvfrom', [ours, bytes, ANSWER_BYTES, MSG_PEEK, 0, 0]);
    tape.store(length, tape.slot(AnswerSlot.LENGTH), 8);
    // 0: the other end was closed.
    tape.jumpIfEqual(length, 0, answered);
    // Two varints of one byte come first: type and success.
    tape.jumpIf(tape.load(bytes, 4), 0xff00, RequestType.NOTIFY << 8, heard);
    tape.jump(answered);
    tape.place(heard);
    act(program, criu, ours);
    tape.syscall('sendto', [ours, answer, goOn.length, MSG_NOSIGNAL, 0, 0]);
  }
  program.step('', 'criu says more than it may');
  tape.fail('EPROTO');
  tape.place(answered);
  program.step('', 'wait for the end of criu');
  program.close(ours);
  const poll = tape.struct(encode('pollfd', { events: POLLIN }));
  tape.store(pidfd, poll.at(0, 4), 4);
  tape.syscall('ppoll', [poll, 1, tape.struct(encode('timespec', { tv_sec: END_SECONDS })), 0, 8]);
  program.close(pidfd);
  const said = tape.label('said');
  const none = tape.label('said_nothing');
  tape.jumpIfEqual(tape.load(tape.slot(AnswerSlot.LENGTH), 8), 0, none);
  tape.jump(said);
  tape.place(none);
  program.step('', 'criu ended before it had answered');
  tape.fail('ECONNRESET');
  tape.place(said);
}

/** Clones and executes it. Returns its pidfd. */
function start(program: Program, criu: Criu, ours: Reg, theirs: Reg): Reg {
  const { tape } = program;
  const pidfd = tape.space(8);
  const flags = CLONE_PIDFD | (criu.sibling ? CLONE_PARENT : 0);
  const encoded = cloneArgs({ flags, exitSignal: criu.sibling ? 0 : SIGCHLD, pidfd });
  const pid = tape.syscall('clone3', [tape.struct(encoded), encoded.bytes.length]);
  const child = tape.label('criu');
  const parent = tape.label('criu_runs');
  tape.jumpIfEqual(pid, 0, child);
  tape.jump(parent);
  tape.place(child);
  tape.lane(LANE);
  criu.prepare?.();
  program.step('', `execute ${criu.program}`);
  program.close(ours);
  const all = [...criu.descriptors, [SOCKET_FD, theirs] as const];
  const moved = all.map(
    ([number, from]) => [number, tape.syscall('fcntl', [from, F_DUPFD_CLOEXEC, ABOVE])] as const,
  );
  for (const [number, from] of moved) tape.syscall('dup3', [from, number, 0]);
  const strings = (texts: readonly string[]) =>
    tape.pointers([...texts.map((text) => tape.cstr(text)), null]);
  const environment = [`PATH=${USUAL_PATH}`, 'HOME=/'];
  tape.syscall('execve', [
    criu.program,
    strings([criu.program, 'swrk', String(SOCKET_FD)]),
    strings(environment),
  ]);
  tape.place(parent);
  return tape.load(pidfd.at(0, 4), 4);
}

/**
 * A notification lies in the answer's slots as criu's encoder writes it, fields in order: type, success (4 bytes), tag and length of the
 * message (2), tag and length of its text (2), the text, tag and number of the pid.
 */
function act(program: Program, criu: Criu, socket: Reg): void {
  const { tape } = program;
  const done = tape.label('acted');
  const name = tape.load(tape.slot(AnswerSlot.BYTES + 1), 8);
  const head = tape.load(tape.slot(AnswerSlot.BYTES), 8);
  const on = (script: string, what: () => void) => {
    const other = tape.label('other');
    const same = tape.label('same_length');
    const hit = tape.label('hit');
    tape.jumpIfEqual(name, Buffer.from(script).readBigUInt64LE(), same);
    tape.jump(other);
    tape.place(same);
    tape.jumpIf(head, 0xff00_0000_0000_0000n, BigInt(script.length) << 56n, hit);
    tape.jump(other);
    tape.place(hit);
    program.step('', `criu: ${script}`);
    what();
    tape.jump(done);
    tape.place(other);
  };
  if (criu.on.terminal !== undefined) {
    on('orphan-pts-master', () => criu.on.terminal?.(receiveDescriptor(program, socket)));
  }
  const swallow = () => tape.syscall('recvfrom', [socket, tape.space(8), 8, 0, 0, 0]);
  swallow();
  const { restored, namespaces, ready } = criu.on;
  if (namespaces !== undefined)
    on('setup-namespaces', () => namespaces(pidAfter(program, 'setup-namespaces')));
  if (restored !== undefined) on('post-restore', () => restored(pidAfter(program, 'post-restore')));
  if (ready !== undefined) on('status-ready', ready);
  tape.place(done);
}

/** The descriptor that comes with the message at the head of the socket. */
function receiveDescriptor(program: Program, socket: Reg): Reg {
  const { tape } = program;
  const rights = scmRights([0]);
  const control = tape.space(rights.bytes.length);
  const message = tape.struct(
    msghdr({
      iov: tape.struct(iovecs([{ at: tape.space(8), length: 8 }])),
      iovCount: 1,
      control: { at: control, length: rights.bytes.length },
    }),
  );
  tape.syscall('recvmsg', [socket, message, MSG_CMSG_CLOEXEC]);
  return tape.load(control.at(scmRightsOffset(0), 4), 4);
}

/** The pid of a notification: a varint behind its text. A tape cannot add, but lseek(2) can: each bit that is set moves a file's offset. */
function pidAfter(program: Program, script: string): Reg {
  const { tape } = program;
  const pid = tape.reg('restored_pid');
  const sum = memoryFile(program, 'pid');
  const end = tape.label('varint_end');
  const first = 8 + script.length + 1;
  for (let index = 0; index < 4; index++) {
    const at = first + index;
    const byte = tape.load(tape.slot(AnswerSlot.BYTES + Math.floor(at / 8)), 8);
    const shift = BigInt((at % 8) * 8);
    for (let bit = 0; bit < 7; bit++) {
      const zero = tape.label('zero_bit');
      tape.jumpIf(byte, 1n << (shift + BigInt(bit)), 0, zero);
      tape.syscall('lseek', [sum, 2 ** (7 * index + bit), SEEK_CUR], { into: pid });
      tape.place(zero);
    }
    tape.jumpIf(byte, 0x80n << shift, 0, end);
  }
  tape.place(end);
  program.close(sum);
  return pid;
}
