/**
 * The tape of an exec: a further process in a running container. The player finds the init, clones into the container's
 * pid namespace and cgroup; the clone joins the other namespaces and becomes the program (DESIGN 3, hazards B14 and B15).
 */
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  CLONE_INTO_CGROUP,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  CLONE_PARENT,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  STATX_INO,
} from '../../linux/constants.ts';
import { cloneArgs } from '../../linux/structs.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { NamespaceType, Spec } from '../../oci/types.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import type { Label, Reg } from '../../tape/refs.ts';
import type { StdioPlan } from '../stdio.ts';
import type { CallerContext, ProcessSettings } from '../types.ts';
import { setAffinity } from './affinity.ts';
import { openConsoleChannel, openTerminal, sendTerminal } from './console.ts';
import { writePidFile } from './create.ts';
import { becomeUser, loadFilter, setLimits } from './credentials.ts';
import { placeDescriptors } from './descriptors.ts';
import { checkFilter } from './filter-check.ts';
import { resetProcess } from './host.ts';
import { enterFolder, giveStreams, hideFromOthers, setOomScore } from './init.ts';
import { joinKeyring } from './keyring.ts';
import { hasMountNamespace } from './namespaces.ts';
import { openPidfdChannel, sendPidfd } from './pidfd-socket.ts';
import { placePlayer } from './player-place.ts';
import { setAttributes } from './process.ts';
import { Program } from './program.ts';
import { type FoundProgram, findProgram } from './program-lookup.ts';
import { register } from './register.ts';
import { openRendezvous, type Rendezvous } from './rendezvous.ts';
import { connectListener, handOverListener, type ListenerPlan, passListener } from './seccomp-listener.ts';
import { type OpenStream, openStreams } from './streams.ts';

export interface ExecInput {
  /** Names this play towards keel; not the container's. */
  token: bigint;
  /** The container's, for the name of its keyring. */
  id: string;
  /** The container's specification with the exec's process in place of its own. Of `linux` only the namespaces count. */
  spec: Spec;
  /** The container's init as keel knows it. Inode 0: a kernel before 6.9, where pidfds have none of their own. */
  init: { pid: number; pidfdInode: bigint };
  stdio: StdioPlan;
  cgroup: ExecCgroup;
  seccomp: { filter: Uint8Array; flags: number } | undefined;
  /** Who gets the listener of a filter that has one, and what it is told. */
  supervisor?: ListenerPlan;
  caller?: CallerContext;
  noNewKeyring?: boolean;
  settings?: ProcessSettings;
  cgroups: CgroupHost;
}

export interface ExecCgroup {
  /** Files into which the process writes "0". */
  procs: readonly string[];
  /** The unified folder, for CLONE_INTO_CGROUP. */
  cloneInto?: string;
  /** Where to go if that one may hold no processes any more (EBUSY: the container made cgroups of its own in it): its init's. */
  instead?: string;
}

const flags: Readonly<Record<NamespaceType, number>> = {
  pid: CLONE_NEWPID,
  network: CLONE_NEWNET,
  ipc: CLONE_NEWIPC,
  uts: CLONE_NEWUTS,
  mount: CLONE_NEWNS,
  cgroup: CLONE_NEWCGROUP,
  user: CLONE_NEWUSER,
  time: CLONE_NEWTIME,
};

/** The clone's exit code as the player sees it, when it ended before it was the program. */
const EXEC_FAILED = 1;
const EXEC_LANE = 1;
/** Result slot: not 0 when the kernel refused to execute the program. */
const REFUSED_SLOT = 1;

export function compileExec(input: ExecInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  resetProcess(program);
  placePlayer(program, input.cgroups, input.settings, input.init.pid);
  const streams = openStreams(program, input);
  const init = findInit(program, input.init);
  const agent = input.supervisor && connectListener(program, input.supervisor.spec);
  const meeting = agent && openRendezvous(program);
  // Before anybody in the container can see the clone, which still has the host's root and descriptors.
  hideFromOthers(program);
  const joined = joinedFlags(input.spec);
  const rest = tape.set(joined & ~CLONE_NEWPID);
  if ((joined & CLONE_NEWPID) !== 0) {
    // A pid namespace is entered by children only.
    program.step('linux.namespaces', "enter the container's pid namespace");
    const denied = tape.label('denied');
    const entered = tape.label('entered');
    // An ordinary user has the right to it only as root of the user namespace that owns it.
    const options = (joined & CLONE_NEWUSER) === 0 ? {} : { on: { EPERM: denied } };
    tape.syscall('setns', [init, CLONE_NEWPID], options);
    tape.jump(entered);
    tape.place(denied);
    tape.syscall('setns', [init, CLONE_NEWPID | CLONE_NEWUSER]);
    tape.set(joined & ~CLONE_NEWPID & ~CLONE_NEWUSER, rest);
    tape.place(entered);
  }

  program.step('', 'make the ready pipe');
  const ends = tape.space(8);
  tape.syscall('pipe2', [ends, O_CLOEXEC]);
  const readEnd = tape.load(ends.at(0, 4), 4);
  const writeEnd = tape.load(ends.at(4, 4), 4);
  // Before the cgroup is entered: its cpuset may be elsewhere (process.execCPUAffinity).
  setAffinity(program, input.spec.process, 'initial');
  const pid = clone(program, input.cgroup);
  const child = tape.label('exec');
  tape.jumpIfEqual(pid, 0, child);

  tape.store(pid, tape.slot(0), 8);
  if (input.supervisor !== undefined && agent !== undefined && meeting !== undefined) {
    program.close(meeting.init);
    passListener(program, input.supervisor, meeting.player, agent, pid);
    program.close(meeting.player);
  }
  watch(program, readEnd, writeEnd);
  if (input.caller?.pidFile !== undefined) writePidFile(program, pid, input.caller.pidFile);
  tape.halt(0);

  tape.place(child);
  becomeProgram(program, input, { init, joined: rest, ready: writeEnd, streams, meeting });
  const assembled = tape.assemble();
  if (input.seccomp !== undefined) checkFilter(assembled, input.seccomp.filter, input.spec);
  return assembled;
}

function joinedFlags(spec: Spec): number {
  return (spec.linux?.namespaces ?? []).reduce((all, { type }) => all | flags[type], 0);
}

/** A pidfd of the init, and proof that the number has not gone to another process. */
export function findInit(program: Program, init: ExecInput['init']): Reg {
  const { tape } = program;
  program.step('', `find the container's init, process ${init.pid}`);
  const pidfd = tape.syscall('pidfd_open', [init.pid, 0]);
  if (init.pidfdInode !== 0n) {
    const same = tape.label('same');
    const stat = tape.space(sizeOf('statx'));
    tape.syscall('statx', [pidfd, '', AT_EMPTY_PATH, STATX_INO, stat]);
    const inode = tape.load(stat.at(fieldOf('statx', 'stx_ino')[0], 8), 8);
    tape.jumpIfEqual(inode, init.pidfdInode, same);
    tape.fail('ESRCH');
    tape.place(same);
  }
  return pidfd;
}

/** v2: born in the container's cgroup, which takes no lock that forks of the whole host wait for. */
function clone(program: Program, cgroup: ExecCgroup): Reg {
  const { tape } = program;
  const { cloneInto, instead } = cgroup;
  const pid = tape.reg('pid');
  const into = cloneInto === undefined ? 0n : CLONE_INTO_CGROUP;
  const encoded = cloneArgs({ flags: BigInt(CLONE_PARENT) | into, exitSignal: 0 });
  const args = tape.struct(encoded);
  const cloneNow = (folder: string | undefined, occupied?: Label) => {
    if (folder !== undefined) {
      program.step('linux.cgroupsPath', `clone into the cgroup ${folder}`);
      const open = tape.syscall('openat', [AT_FDCWD, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
      tape.store(open, args.at(...fieldOf('clone_args', 'cgroup')), 8);
    } else {
      program.step('', 'clone the process');
    }
    const on = occupied === undefined ? {} : { EBUSY: occupied };
    tape.syscall('clone3', [args, encoded.bytes.length], { into: pid, on });
  };
  if (instead === undefined) {
    cloneNow(cloneInto);
    return pid;
  }
  const occupied = tape.label('occupied');
  const cloned = tape.label('cloned');
  cloneNow(cloneInto, occupied);
  tape.jump(cloned);
  tape.place(occupied);
  cloneNow(instead);
  tape.place(cloned);
  return pid;
}

/** Waits until the clone has executed the program or failed: one byte says "about to", the end of the pipe "done". */
function watch(program: Program, readEnd: Reg, writeEnd: Reg): void {
  const { tape } = program;
  program.step('', 'wait until the process runs');
  program.close(writeEnd);
  const byte = tape.space(8);
  const about = tape.label('about');
  const failed = tape.label('failed');
  const runs = tape.label('runs');
  tape.jumpIfEqual(tape.syscall('read', [readEnd, byte, 1]), 1, about);
  tape.jump(failed);
  tape.place(about);
  tape.syscall('read', [readEnd, byte, 1]);
  tape.jumpIfEqual(tape.load(tape.slot(REFUSED_SLOT), 8), 0, runs);
  tape.place(failed);
  tape.halt(EXEC_FAILED);
  tape.place(runs);
}

interface Inheritance {
  init: Reg;
  /** Flags of setns(2). */
  joined: Reg;
  ready: Reg;
  streams: readonly OpenStream[];
  /** Present where the player takes a seccomp listener. */
  meeting: Rendezvous | undefined;
}

function becomeProgram(program: Program, input: ExecInput, inheritance: Inheritance): void {
  const { tape } = program;
  const { spec, caller } = input;
  tape.lane(EXEC_LANE);
  for (const file of input.cgroup.procs) program.writeFile(file, '0', 'linux.cgroupsPath');
  setAffinity(program, spec.process, 'final');
  register(program, input, inheritance);
  tape.syscall('setsid', []);
  setOomScore(program, input);
  const channel = spec.process.terminal === true ? openConsoleChannel(program, input) : undefined;
  const pidfdChannel = openPidfdChannel(program, caller);
  program.step('linux.namespaces', "join the container's namespaces");
  const none = tape.label('none_to_join');
  tape.jumpIfEqual(inheritance.joined, 0, none);
  tape.syscall('setns', [inheritance.init, inheritance.joined]);
  tape.place(none);
  if (!hasMountNamespace(spec)) enterRootOf(program, input.init.pid);
  joinKeyring(program, input);
  let slave: Reg | undefined;
  if (channel !== undefined) {
    program.step('process.terminal', 'open the root');
    tape.syscall('openat', [AT_FDCWD, '/', O_PATH | O_DIRECTORY | O_CLOEXEC, 0], { into: program.root });
    const terminal = openTerminal(program, input);
    sendTerminal(program, input, channel, terminal.master);
    slave = terminal.slave;
  }
  sendPidfd(program, pidfdChannel, 'setns');
  const { meeting } = inheritance;
  // Its own copy of the player's end would hide the player's death.
  if (meeting !== undefined) program.close(meeting.player);
  const [ready, end] = placeDescriptors(program, {
    preserve: caller?.preserveFds ?? 0,
    streams: inheritance.streams,
    slave,
    kept: [inheritance.ready, ...(meeting === undefined ? [] : [meeting.init])],
  }) as [Reg, Reg | undefined];
  const onListener = (listener: Reg) => {
    if (end !== undefined) handOverListener(program, end, listener);
  };
  const late = spec.process.noNewPrivileges === true ? input.seccomp : undefined;
  setLimits(program, spec);
  setAttributes(program, spec);
  giveStreams(program, input);
  becomeUser(program, spec, input.seccomp, onListener);
  enterFolder(program, spec.process.cwd);
  const found = findProgram(program, spec);
  program.step('process.user.umask', 'set the umask');
  tape.syscall('umask', [spec.process.user.umask ?? 0o022]);
  // With a listener the player must be there to take it.
  if (end !== undefined && late !== undefined) loadFilter(program, late, onListener);
  program.step('', 'tell the player that the program is about to run');
  tape.syscall('write', [ready, 'x', 1]);
  if (end === undefined && late !== undefined) loadFilter(program, late);
  execute(program, found, spec.process.args[0] ?? '');
}

/** A container without a mount namespace has its root by chroot(2): the init knows where. */
function enterRootOf(program: Program, pid: number): void {
  program.step('root.path', "enter the init's root");
  program.tape.syscall('chroot', [`/proc/${pid}/root`]);
  program.tape.syscall('chdir', ['/']);
}

/**
 * A failure is told through the shared page, as a filter may forbid every system call. The second execve fails as the first
 * did, and with it the play.
 */
function execute(program: Program, found: FoundProgram, name: string): void {
  const { tape } = program;
  program.step('process.args[0]', `exec ${name}`);
  const refused = tape.label('refused');
  const args = [found.path, found.argv, found.envp];
  tape.syscall('execve', args, { on: { any: refused } });
  tape.place(refused);
  tape.store(tape.set(1), tape.slot(REFUSED_SLOT), 8);
  tape.syscall('execve', args);
}
