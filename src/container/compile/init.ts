/** The init's part of a create tape: from the clone to execve, in the order that the kernel's rules ask for. */
import { WherryError } from '../../errors.ts';
import {
  AF_INET,
  AT_EMPTY_PATH,
  AT_FDCWD,
  CLONE_NEWCGROUP,
  IFF_UP,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  PR_SET_DUMPABLE,
  SIOCSIFFLAGS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  STATX_TYPE,
} from '../../linux/constants.ts';
import { ifreqFlags } from '../../linux/structs.ts';
import { fieldOf, sizeOf } from '../../linux/structs-layout.ts';
import type { Reg } from '../../tape/refs.ts';
import { makeConsole, openConsoleChannel } from './console.ts';
import { becomeUser, loadFilter, setLimits } from './credentials.ts';
import { placeDescriptors } from './descriptors.ts';
import { makeDevices } from './devices.ts';
import { execute } from './execute.ts';
import { newFilesystem } from './filesystem.ts';
import { maskPaths, NULL_DEVICE, openNullDevice, protectPaths } from './hide.ts';
import { runCreateHooks, runStartHooks } from './hook-points.ts';
import type { CreateInput } from './input.ts';
import { joinKeyring } from './keyring.ts';
import { compileMounts } from './mounts.ts';
import { hasNewNamespace, type JoinedNamespace, joinAfterClone } from './namespaces.ts';
import { setUpNetDevices } from './net-devices.ts';
import { openPidfdChannel, sendPidfd } from './pidfd-socket.ts';
import { setAttributes } from './process.ts';
import type { Program } from './program.ts';
import { findProgram } from './program-lookup.ts';
import { register } from './register.ts';
import type { Rendezvous } from './rendezvous.ts';
import { enterResctrl } from './resctrl.ts';
import { attachRoot, enterRoot } from './root.ts';
import { handOverListener, listens } from './seccomp-listener.ts';
import { openSources, type Sources } from './sources.ts';
import type { OpenStream } from './streams.ts';
import { enterTimeNamespace } from './time-namespace.ts';
import { becomeMappedRoot, type Gate, inUserNamespace, passGate } from './user-namespace.ts';

/** What the init inherits from the player by its registers. */
export interface Inheritance {
  /** Write end of the pipe that tells the player that the container is created. */
  ready: Reg;
  /** stdin, stdout, stderr; none: the caller's own 0-2. */
  streams: readonly OpenStream[];
  joined: readonly JoinedNamespace[];
  /** Opened by the player: sources.ts. */
  sources: Sources;
  /** Passed once the ids are mapped; undefined without a new user namespace. */
  gate: Gate | undefined;
  /** Present where the player runs hooks on the host. */
  meeting?: Rendezvous | undefined;
  /** The file for the outcome of startContainer hooks. */
  start?: Reg | undefined;
}

/**
 * No process of the container may look into this one, nor into what it clones from here on, as long as it has anything of the
 * host (CVE-2016-9962). Whoever may look nevertheless has CAP_SYS_PTRACE over the host itself (ptrace(2)).
 */
export function hideFromOthers(program: Program): void {
  program.step('', 'keep other processes from looking into this one');
  program.tape.perform('prctl', [PR_SET_DUMPABLE, 0, 0, 0, 0]);
}

export function compileInit(program: Program, input: CreateInput, inheritance: Inheritance): void {
  const { tape } = program;
  const { spec } = input;
  tape.lane(1);
  enterCgroup(program, input);
  enterResctrl(program, input.resctrl);
  register(program, input, inheritance);
  // While the host's paths are in sight, and this process has the host's ids.
  const channel = spec.process.terminal === true ? openConsoleChannel(program, input) : undefined;
  const pidfdChannel = openPidfdChannel(program, input.caller);
  program.step('', 'open the state directory');
  const state = tape.syscall('openat', [AT_FDCWD, input.stateDir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
  if (!inUserNamespace(spec)) setOomScore(program, input);
  enterTimeNamespace(program, spec);
  if (inheritance.gate !== undefined) {
    const mapped = hasNewNamespace(spec, 'user');
    program.step(
      mapped ? 'linux.uidMappings' : 'linux.netDevices',
      mapped ? 'wait for the ids to be mapped' : 'wait for the network devices',
    );
    passGate(program, inheritance.gate);
  }
  if (inheritance.gate !== undefined) hideFromOthers(program);
  program.step('', 'lead a session of its own');
  tape.perform('setsid', []);
  joinAfterClone(program, inheritance.joined);
  let { sources } = inheritance;
  if (inUserNamespace(spec)) {
    // The container's root is another than the user, who can reach these paths and has all rights to mounts by now.
    if (input.unprivileged === true && input.rootIsUser !== true)
      sources = openSources(program, { ...input, unprivileged: false });
    becomeMappedRoot(program);
  }

  attachRoot(program, input, sources);
  compileMounts(program, input, sources);
  makeDevices(program, spec, input.bindDevices === true);
  const nullDevice = (spec.linux?.maskedPaths ?? []).length > 0 ? openNullDevice(program, spec) : undefined;
  const slave = channel === undefined ? undefined : makeConsole(program, input, channel);
  runCreateHooks(program, input, inheritance.meeting);
  setNames(program, input);
  setSysctls(program, input);
  if (hasNewNamespace(spec, 'network')) raiseLoopback(program);
  if (input.netDevices !== undefined && input.netDevices.length > 0)
    setUpNetDevices(program, input.netDevices);
  maskPaths(program, spec, nullDevice);
  protectPaths(program, spec);
  const cwd = program.ensure(program.root, spec.process.cwd, 'folder');
  program.close(cwd);
  enterRoot(program, input);

  joinKeyring(program, input);
  sendPidfd(program, pidfdChannel, 'standard');
  const { meeting, start: result } = inheritance;
  const keptEnd = listens(input.seccomp) ? meeting?.init : undefined;
  const kept = [state, inheritance.ready, result, keptEnd].filter((descriptor) => descriptor !== undefined);
  const places = placeDescriptors(program, {
    preserve: input.caller?.preserveFds ?? 0,
    streams: inheritance.streams,
    slave,
    kept,
  });
  const [stateDir, ready] = places as [Reg, Reg];
  const start = result && places[2];
  const end = keptEnd && places[kept.length - 1];
  const onListener = (listener: Reg) => {
    if (end !== undefined) handOverListener(program, end, listener);
  };
  setLimits(program, spec);
  setAttributes(program, spec);
  giveStreams(program, input);
  becomeUser(program, spec, input.seccomp, onListener);
  enterFolder(program, spec.process.cwd);
  const found = findProgram(program, spec);
  program.step('process.user.umask', 'set the umask');
  tape.perform('umask', [spec.process.user.umask ?? 0o022]);

  if (input.startAtOnce === true) runStartHooks(program, input, start);
  // With a listener the player must be there to take it.
  const early = end !== undefined;
  if (early) loadLate(program, input, onListener);
  program.step('', 'tell the player that the container is created');
  tape.perform('write', [ready, 'c', 1]);
  program.close(ready);
  if (input.startAtOnce !== true) {
    program.step('', 'wait for start: open the exec FIFO');
    const opened = tape.syscall('openat', [stateDir, 'exec.fifo', O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0]);
    program.close(opened);
    runStartHooks(program, input, start);
  }
  program.close(stateDir);
  if (!early) loadLate(program, input);
  execute(program, found, input);
}

/** With no_new_privs the filter may be loaded by anybody, so it comes last. */
function loadLate(program: Program, input: CreateInput, onListener?: (listener: Reg) => void): void {
  if (input.seccomp === undefined || input.spec.process.noNewPrivileges !== true) return;
  loadFilter(program, input.seccomp, onListener);
}

function enterCgroup(program: Program, input: CreateInput): void {
  const { procs, cloneInto } = input.cgroup;
  for (const file of procs) {
    // Born there.
    if (cloneInto !== undefined && file === `${cloneInto}/cgroup.procs`) continue;
    program.writeFile(file, '0', 'linux.cgroupsPath');
  }
  if (hasNewNamespace(input.spec, 'cgroup')) {
    // After the attach: a cgroup namespace is rooted where its maker is (cgroup_namespaces(7)).
    program.step('linux.namespaces', 'make the cgroup namespace');
    program.tape.perform('unshare', [CLONE_NEWCGROUP]);
  }
}

export function setOomScore(program: Program, input: Pick<CreateInput, 'spec'>): void {
  const score = input.spec.process.oomScoreAdj;
  if (score === undefined) return;
  program.writeFile('/proc/self/oom_score_adj', String(score), 'process.oomScoreAdj');
}

function setNames(program: Program, input: CreateInput): void {
  const { tape } = program;
  const { hostname, domainname } = input.spec;
  if (hostname !== undefined && hostname !== '') {
    program.step('hostname', `set the hostname ${hostname}`);
    tape.perform('sethostname', [hostname, Buffer.byteLength(hostname)]);
  }
  if (domainname !== undefined && domainname !== '') {
    program.step('domainname', `set the domain name ${domainname}`);
    tape.perform('setdomainname', [domainname, Buffer.byteLength(domainname)]);
  }
}

/** Written through a procfs of our own that is mounted nowhere, so nothing in the root can redirect it (CVE-2025-52881). */
function setSysctls(program: Program, input: CreateInput): void {
  const entries = Object.entries(input.spec.linux?.sysctl ?? {});
  if (entries.length === 0) return;
  const { tape } = program;
  program.step('linux.sysctl', 'open a procfs of our own');
  const proc = newFilesystem(program, 'proc', 'proc', { parameters: [], attrSet: 0 }, 'linux.sysctl');
  for (const [name, value] of entries) {
    program.step(`linux.sysctl.${name}`, `set ${name} to ${value}`);
    const file = tape.syscall('openat', [proc, sysctlPath(name), O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0]);
    program.write(file, value);
    program.close(file);
  }
  program.close(proc);
}

/** Both spellings of sysctl(8): dots, or slashes where a name has dots of its own. */
function sysctlPath(name: string): string {
  const separator =
    name.indexOf('/') >= 0 && (name.indexOf('.') < 0 || name.indexOf('/') < name.indexOf('.')) ? '/' : '.';
  const path = separator === '/' ? name : name.replaceAll(/[./]/g, (sign) => (sign === '.' ? '/' : '.'));
  if (path.split('/').includes('..')) {
    throw new WherryError('invalid-argument', `linux.sysctl: ${name} leaves /proc/sys`, {
      path: 'linux.sysctl',
    });
  }
  return `sys/${path}`;
}

/** A new network namespace has a loopback interface that is down; netdevice(7). */
function raiseLoopback(program: Program): void {
  const { tape } = program;
  program.step('linux.namespaces', 'bring up the loopback interface');
  const socket = tape.syscall('socket', [AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0]);
  tape.perform('ioctl', [socket, SIOCSIFFLAGS, tape.struct(ifreqFlags('lo', IFF_UP))]);
  program.close(socket);
}

/** The container's user may re-open /dev/stdout, except where that is the host's /dev/null. */
export function giveStreams(program: Program, input: Pick<CreateInput, 'spec' | 'settings'>): void {
  const { tape } = program;
  const { user, terminal } = input.spec.process;
  // The player has given them to whom the caller named; a terminal is made only in here.
  const given = input.settings?.ioUid !== undefined && terminal !== true;
  if (user.uid === 0 || given) return;
  program.step('process.user', 'give the standard streams to the user');
  for (const number of [0, 1, 2]) {
    const skip = tape.label('skip');
    const stat = tape.space(sizeOf('statx'));
    tape.syscall('statx', [number, '', AT_EMPTY_PATH, STATX_TYPE, stat], { on: { any: skip } });
    const device = tape.load(stat.at(fieldOf('statx', 'stx_rdev_major')[0], 8), 8);
    tape.jumpIfEqual(device, NULL_DEVICE, skip);
    tape.syscall('fchown', [number, user.uid, -1], { on: { any: skip } });
    tape.place(skip);
  }
}

/** chdir, and proof that the folder is inside the root: a leaked descriptor in /proc/self/fd is not (CVE-2024-21626). */
export function enterFolder(program: Program, cwd: string): void {
  const { tape } = program;
  program.step('process.cwd', `chdir to ${cwd}`);
  tape.perform('chdir', [cwd]);
  const path = tape.space(4096);
  tape.perform('getcwd', [path, 4096]);
  const inside = tape.label('inside');
  tape.jumpIf(tape.load(path.at(0, 4), 4), 0xff, '/'.charCodeAt(0), inside);
  tape.fail('ENOENT');
  tape.place(inside);
}
