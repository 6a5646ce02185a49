/** A container's create tape: the player's part (host.ts), the clone, the init's part (init.ts). */
import {
  AT_FDCWD,
  CLONE_INTO_CGROUP,
  CLONE_PARENT,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_WRONLY,
} from '../../linux/constants.ts';
import { cloneArgs } from '../../linux/structs.ts';
import { fieldOf } from '../../linux/structs-layout.ts';
import type { AssembledTape } from '../../tape/assemble.ts';
import type { Reg } from '../../tape/refs.ts';
import type { BundleFile } from '../types.ts';
import { openForClone } from './cgroup-v2.ts';
import { checkFilter } from './filter-check.ts';
import { hasHostHooks, openStartResult, runHostHooks } from './hook-points.ts';
import { createCgroup, makeStartGate, resetProcess } from './host.ts';
import { compileInit, hideFromOthers, setOomScore } from './init.ts';
import { type CreateInput, INIT_FAILED } from './input.ts';
import { hasNewNamespace, joinBeforeClone, newNamespaceFlags, openNamespaces } from './namespaces.ts';
import { moveNetDevices, openNetwork } from './net-devices.ts';
import { placePlayer } from './player-place.ts';
import { Program } from './program.ts';
import { openRendezvous } from './rendezvous.ts';
import { makeResctrlGroup } from './resctrl.ts';
import { mountRootfs } from './rootfs-mounts.ts';
import { connectListener, listens, passListener } from './seccomp-listener.ts';
import { openSources } from './sources.ts';
import { openStreams } from './streams.ts';
import {
  checkMappings,
  giveStreamsToMapped,
  hasNewUserNamespace,
  inUserNamespace,
  makeGate,
  mapIds,
  mapsOf,
  openGate,
  openProcess,
} from './user-namespace.ts';

export type { CreateInput } from './input.ts';

export function compileCreate(input: CreateInput): AssembledTape {
  const program = new Program();
  const { tape } = program;
  resetProcess(program);
  placePlayer(program, input.cgroups, input.settings, input.schedCoreWith);
  if (input.startAtOnce !== true) makeStartGate(program, input.stateDir);
  mountRootfs(program, input.rootfsMounts, `${input.bundle}/rootfs`, 'rootfs');
  createCgroup(program, input.cgroup, input.cgroups);
  makeResctrlGroup(program, input.resctrl);
  const streams = openStreams(program, input);
  giveStreamsToMapped(program, input, streams);
  const joined = openNamespaces(program, input.spec, input.joinOwner);

  const { cloneInto } = input.cgroup;
  const cgroup = cloneInto === undefined ? undefined : openForClone(program, cloneInto);

  const start = openStartResult(program, input);
  const agent = listens(input.seccomp) ? connectListener(program, input.spec) : undefined;
  const meets = hasHostHooks(input.spec) || agent !== undefined;
  const meeting = meets ? openRendezvous(program) : undefined;

  program.step('', 'make the ready pipe');
  const ends = tape.space(8);
  tape.perform('pipe2', [ends, O_CLOEXEC]);
  const readEnd = tape.load(ends.at(0, 4), 4);
  const writeEnd = tape.load(ends.at(4, 4), 4);
  const sources = openSources(program, input);
  const { netDevices = [] } = input;
  const ownNetwork = hasNewNamespace(input.spec, 'network');
  const ownIds = hasNewUserNamespace(input.spec);
  let gate = ownIds ? makeGate(program) : undefined;
  if (ownNetwork && netDevices.length > 0) {
    gate ??= makeGate(program, 'linux.netDevices', 'its network devices');
  }
  if (ownIds) checkMappings(input.spec);
  // Lowered with the host's rights, which the init has given up then.
  if (inUserNamespace(input.spec)) setOomScore(program, input);
  const network = joined.find(({ type }) => type === 'network');
  if (network !== undefined && netDevices.length > 0) moveNetDevices(program, netDevices, network.descriptor);
  // A new user namespace takes its mapping of ids only from a process that may be looked into; nobody else is in there yet.
  if (gate === undefined) hideFromOthers(program);
  joinBeforeClone(program, joined);

  program.step('linux.namespaces', 'clone the init into its namespaces');
  const into = cgroup === undefined ? 0n : CLONE_INTO_CGROUP;
  const flags = (CLONE_PARENT | newNamespaceFlags(input.spec)) >>> 0;
  const encoded = cloneArgs({
    flags: into === 0n ? flags : BigInt(flags) | into,
    exitSignal: 0,
  });
  const args = tape.struct(encoded);
  if (cgroup !== undefined) tape.store(cgroup, args.at(...fieldOf('clone_args', 'cgroup')), 8);
  const pid = tape.syscall('clone3', [args, encoded.bytes.length]);
  const init = tape.label('init');
  tape.jumpIfEqual(pid, 0, init);

  tape.store(pid, tape.slot(0), 8);
  if (gate !== undefined) {
    const process = openProcess(program, pid);
    if (ownIds) {
      const maps = mapsOf(input.spec, input.unprivileged !== true, input.idHelpers);
      mapIds(program, { pid, process }, maps);
    }
    if (ownNetwork && netDevices.length > 0) {
      const namespace = openNetwork(program, process);
      moveNetDevices(program, netDevices, namespace);
      program.close(namespace);
    }
    program.close(process);
    openGate(program, gate);
  }
  program.step('', 'wait until the container is created');
  program.close(writeEnd);
  if (meeting !== undefined) {
    program.close(meeting.init);
    if (hasHostHooks(input.spec)) runHostHooks(program, input, meeting, pid);
    if (agent !== undefined) passListener(program, input, meeting.player, agent, pid);
    program.close(meeting.player);
  }
  // Beside the init, which takes longer than files do.
  for (const file of input.files ?? []) writeText(program, file);
  const pidFile = input.pidFile ?? input.caller?.pidFile;
  if (pidFile !== undefined) preparePidFile(program, pid, pidFile);
  program.step('', 'wait until the container is created');
  const count = tape.syscall('read', [readEnd, tape.space(8), 1]);
  const created = tape.label('created');
  tape.jumpIfEqual(count, 1, created);
  if (pidFile !== undefined) dropPidFile(program, pidFile);
  tape.halt(INIT_FAILED);
  tape.place(created);
  if (pidFile !== undefined) showPidFile(program, pidFile);
  tape.halt(0);

  tape.place(init);
  compileInit(program, input, { ready: writeEnd, streams, joined, sources, gate, meeting, start });
  const assembled = tape.assemble();
  if (input.seccomp !== undefined) {
    checkFilter(assembled, input.seccomp.filter, input.spec);
  }
  return assembled;
}

/** For other programs to read; a container must not fail for it. */
export function writeText(program: Program, { path, text, mode, keep }: BundleFile): void {
  const { tape } = program;
  program.step('', `write ${path}`);
  const failed = tape.label('unwritten');
  const flags = O_WRONLY | O_CREAT | O_CLOEXEC | (keep === true ? O_EXCL : O_TRUNC);
  const file = tape.syscall('openat', [AT_FDCWD, path, flags, mode], { on: { any: failed } });
  const close = tape.label('close');
  tape.syscall('write', [file, text, Buffer.byteLength(text)], { on: { any: close } });
  tape.place(close);
  program.close(file);
  tape.place(failed);
}

/** No newline, as runc. */
export function writePidFile(program: Program, pid: Reg, path: string): void {
  preparePidFile(program, pid, path);
  showPidFile(program, path);
}

/** Beside its place, so that a watcher never reads half a number, nor one of a container that comes to nothing. */
function preparePidFile(program: Program, pid: Reg, path: string): void {
  const { tape } = program;
  program.step('--pid-file', `write the pid to ${path}`);
  const digits = tape.space(24);
  const length = tape.decimal(pid, digits);
  const temporary = besidePidFile(path);
  const retry = tape.label('stale');
  const opened = tape.label('opened');
  const file = tape.reg('file');
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  tape.syscall('openat', [AT_FDCWD, temporary, flags, 0o644], { into: file, on: { EEXIST: retry } });
  tape.jump(opened);
  tape.place(retry);
  tape.syscall('unlinkat', [AT_FDCWD, temporary, 0]);
  tape.syscall('openat', [AT_FDCWD, temporary, flags, 0o644], { into: file });
  tape.place(opened);
  tape.syscall('write', [file, digits, length]);
  program.close(file);
}

function showPidFile(program: Program, path: string): void {
  program.step('--pid-file', `write the pid to ${path}`);
  program.tape.syscall('renameat2', [AT_FDCWD, besidePidFile(path), AT_FDCWD, path, 0]);
}

function dropPidFile({ tape }: Program, path: string): void {
  const gone = tape.label('dropped');
  tape.syscall('unlinkat', [AT_FDCWD, besidePidFile(path), 0], { on: { any: gone } });
  tape.place(gone);
}

function besidePidFile(path: string): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}`;
}
