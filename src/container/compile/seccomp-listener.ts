/**
 * linux.seccomp with SCMP_ACT_NOTIFY: the kernel hands the init a descriptor on which a supervisor answers the calls. The init passes it
 * to the player at their rendezvous, and the player sends it to `listenerPath` with the state of the container process
 * (config-linux.md, "The Container Process State"), because only the player sees the host's paths and pids.
 */
import { MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SECCOMP_FILTER_FLAG_NEW_LISTENER } from '../../linux/constants.ts';
import { iovecs, msghdr, scmRights, scmRightsOffset } from '../../linux/structs.ts';
import type { Spec } from '../../oci/types.ts';
import type { DataRef, Reg } from '../../tape/refs.ts';
import { INIT_FAILED } from './input.ts';
import type { Program } from './program.ts';
import { awaitGo, endInit, sayGo } from './rendezvous.ts';
import { checkSocketPath, connectTo, messageWith, sendDescriptor } from './unix-socket.ts';

const DECIMAL_ROOM = 24;

/** The filter comes with a listener. */
export function listens(seccomp: { flags: number } | undefined): boolean {
  return seccomp !== undefined && (seccomp.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) !== 0;
}

/** Before the clone: a supervisor that is not there costs nothing yet. */
export function connectListener(program: Program, spec: Spec): Reg {
  const path = spec.linux?.seccomp?.listenerPath ?? '';
  checkSocketPath(path, 'linux.seccomp.listenerPath');
  program.step('linux.seccomp.listenerPath', `connect to the seccomp supervisor at ${path}`);
  return connectTo(program, path);
}

/** The init's side, right after the filter is loaded; nothing but sendmsg, close and read happens before the supervisor has it. */
export function handOverListener(program: Program, end: Reg, listener: Reg): void {
  program.step('linux.seccomp', 'hand the seccomp listener over');
  sendDescriptor(program, end, 'l', listener);
  awaitGo(program, end);
  program.close(listener);
  program.close(end);
}

export interface ListenerPlan {
  id: string;
  bundle: string;
  spec: Spec;
  /** Of an exec: the init of the running container. Absent: the process is the init of a container in creation. */
  init?: { pid: number };
}

/** The player's side: takes the listener, sends it on with the state, lets the init go on. */
export function passListener(program: Program, plan: ListenerPlan, end: Reg, agent: Reg, pid: Reg): void {
  const { tape } = program;
  program.step('linux.seccomp', 'wait for the seccomp listener');
  const rights = scmRights([-1]);
  const control = tape.struct(rights);
  const message = tape.struct(
    msghdr({
      iov: tape.struct(iovecs([{ at: tape.space(8), length: 1 }])),
      iovCount: 1,
      control: { at: control, length: rights.bytes.length },
    }),
  );
  const there = tape.label('listener_there');
  tape.jumpIfEqual(tape.syscall('recvmsg', [end, message, MSG_CMSG_CLOEXEC]), 1, there);
  tape.halt(INIT_FAILED);
  tape.place(there);
  const listener = tape.load(control.at(scmRightsOffset(0), 4), 4);

  program.step('linux.seccomp.listenerPath', 'send the seccomp listener to the supervisor');
  const refused = tape.label('supervisor_gone');
  const sent = tape.label('listener_sent');
  const state = processState(program, plan, pid);
  tape.syscall('sendmsg', [agent, messageWith(program, state, listener), MSG_NOSIGNAL], {
    on: { any: refused },
  });
  tape.jump(sent);
  tape.place(refused);
  endInit(program, end, pid);
  tape.fail('ECONNREFUSED');
  tape.place(sent);
  program.close(listener);
  program.close(agent);
  program.step('', 'let the init go on');
  sayGo(program, end);
}

/** JSON with blanks behind the pids: they are not known before the clone. */
function processState(program: Program, plan: ListenerPlan, pid: Reg): { at: DataRef; length: number } {
  const { tape } = program;
  const { ociVersion, annotations = {}, linux } = plan.spec;
  const gap = ' '.repeat(DECIMAL_ROOM);
  const text = (value: string): string => JSON.stringify(value);
  const outer = `{"ociVersion":${text(ociVersion)},"fds":["seccompFd"],"pid":`;
  const inner = `,"metadata":${text(linux?.seccomp?.listenerMetadata ?? '')},"state":{"ociVersion":${text(ociVersion)},"id":${text(plan.id)},"status":"${plan.init === undefined ? 'creating' : 'running'}","pid":`;
  const tail = `,"bundle":${text(plan.bundle)},"annotations":${JSON.stringify(annotations)}}}`;
  const bytes = Buffer.from(`${outer}${gap}${inner}${gap}${tail}`);
  const whole = tape.bytes(bytes);
  const first = Buffer.byteLength(outer);
  const second = first + DECIMAL_ROOM + Buffer.byteLength(inner);
  const init = plan.init === undefined ? pid : tape.set(plan.init.pid);
  tape.decimal(pid, whole.at(first, DECIMAL_ROOM));
  tape.decimal(init, whole.at(second, DECIMAL_ROOM));
  return { at: whole, length: bytes.length };
}
