/**
 * linux.uidMappings and gidMappings: a new user namespace is born with the init; the player writes its maps while the init
 * waits, then the init becomes the root that they name (user_namespaces(7)).
 */
import { WherryError } from '../../errors.ts';
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, O_WRONLY } from '../../linux/constants.ts';
import type { LinuxIdMapping, Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { ProcessSettings } from '../types.ts';
import { runIdHelper } from './id-helper.ts';
import type { IdHelpers } from './input.ts';
import { hasNewNamespace } from './namespaces.ts';
import type { Program } from './program.ts';

/** A pipe that one process waits on until another says go; its end without a word is a no. */
export interface Gate {
  read: Reg;
  write: Reg;
}

const GO = 'g';

export function makeGate(program: Program, field = 'linux.uidMappings', awaited = 'its ids'): Gate {
  const { tape } = program;
  program.step(field, `make the pipe on which the init waits for ${awaited}`);
  const ends = tape.space(8);
  tape.syscall('pipe2', [ends, O_CLOEXEC]);
  return { read: tape.load(ends.at(0, 4), 4), write: tape.load(ends.at(4, 4), 4) };
}

/** In the player: lets the other side go on. */
export function openGate(program: Program, gate: Gate): void {
  program.close(gate.read);
  program.tape.syscall('write', [gate.write, GO, 1]);
  program.close(gate.write);
}

/** In the process that waits: only the one byte means go. */
export function passGate(program: Program, gate: Gate): void {
  const { tape } = program;
  program.close(gate.write);
  const byte = tape.space(8);
  const count = tape.syscall('read', [gate.read, byte, 1]);
  const passed = tape.label('passed');
  tape.jumpIfEqual(count, 1, passed);
  tape.fail('ECANCELED');
  tape.place(passed);
  program.close(gate.read);
}

/** The container's user namespace is not the caller's: a new one, or a joined one. */
export function inUserNamespace(spec: Spec): boolean {
  return (spec.linux?.namespaces ?? []).some(({ type }) => type === 'user');
}

export function hasNewUserNamespace(spec: Spec): boolean {
  return hasNewNamespace(spec, 'user');
}

/** Text for /proc/PID/uid_map: a line for each range. */
export function mapText(mappings: readonly LinuxIdMapping[]): string {
  return mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('');
}

/** A host's id by a container's; undefined where nothing is mapped. */
export function hostId(mappings: readonly LinuxIdMapping[], id: number): number | undefined {
  const range = mappings.find(({ containerID, size }) => id >= containerID && id - containerID < size);
  return range === undefined ? undefined : range.hostID + (id - range.containerID);
}

/** Both lists are there and have a root; the kernel itself checks ranges that overlap. */
export function checkMappings(spec: Spec): void {
  for (const field of ['uidMappings', 'gidMappings'] as const) {
    const mappings = spec.linux?.[field] ?? [];
    if (hostId(mappings, 0) !== undefined) continue;
    throw new WherryError(
      'invalid-argument',
      `linux.${field}: id 0 of the container is mapped to no id of the host`,
      {
        path: `linux.${field}`,
        hint: 'a new user namespace needs a mapping with containerID 0 in uidMappings and in gidMappings',
      },
    );
  }
}

/** Opens the folder of /proc of a process whose number is in a register. */
export function openProcess(program: Program, pid: Reg): Reg {
  const { tape } = program;
  const prefix = Buffer.from('/proc/');
  // Zeros behind the digits end the text.
  const path = tape.bytes(Buffer.concat([prefix, Buffer.alloc(26)]));
  tape.decimal(pid, path.at(prefix.length));
  return tape.syscall('openat', [AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0]);
}

/** One of /proc/PID/{uid_map,gid_map,setgroups} and what goes into it. */
export interface MapFile {
  file: string;
  text: string;
  field: string;
  /** Path of newuidmap or newgidmap: it may write what this process may not. */
  helper?: string;
}

/** In a process that may: maps are written once, whole, each with one write. */
export function writeMaps(program: Program, process: Reg, maps: readonly MapFile[]): void {
  const { tape } = program;
  for (const { file, text, field } of maps) {
    program.step(field, `write ${JSON.stringify(text)} to ${file}`);
    const opened = tape.syscall('openat', [process, file, O_WRONLY | O_CLOEXEC, 0]);
    tape.syscall('write', [opened, text, Buffer.byteLength(text)]);
    program.close(opened);
  }
}

/** In the player: the ids of a process, whose folder of /proc is open, written here or by a helper. */
export function mapIds(
  program: Program,
  { pid, process }: { pid: Reg; process: Reg },
  maps: readonly MapFile[],
): void {
  const own = maps.filter(({ helper }) => helper === undefined);
  writeMaps(program, process, own);
  for (const map of maps) {
    if (map.helper !== undefined) runIdHelper(program, pid, { ...map, helper: map.helper });
  }
}

/**
 * The maps of config.json. Without privileges, and without a helper for the groups, setgroups(2) is given up first, as the kernel
 * demands (CVE-2014-8989); newgidmap does so itself where /etc/subgid names nothing.
 */
export function mapsOf(spec: Spec, privileged: boolean, helpers: IdHelpers = {}): MapFile[] {
  const { uid, gid } = helpers;
  const deny = !privileged && gid === undefined;
  return [
    ...(deny ? [{ file: 'setgroups', text: 'deny', field: 'linux.gidMappings' }] : []),
    {
      file: 'uid_map',
      text: mapText(spec.linux?.uidMappings ?? []),
      field: 'linux.uidMappings',
      ...(uid !== undefined && { helper: uid }),
    },
    {
      file: 'gid_map',
      text: mapText(spec.linux?.gidMappings ?? []),
      field: 'linux.gidMappings',
      ...(gid !== undefined && { helper: gid }),
    },
  ];
}

/** What follows is done by the container's own root: files that it makes belong to it. */
export function becomeMappedRoot(program: Program): void {
  const { tape } = program;
  program.step('linux.uidMappings', "become root of the container's user namespace");
  const denied = tape.label('denied');
  tape.syscall('setgroups', [0, 0], { on: { EPERM: denied } });
  tape.place(denied);
  tape.syscall('setresgid', [0, 0, 0]);
  tape.syscall('setresuid', [0, 0, 0]);
}

/**
 * In the player, for streams that it has opened: the container's user may open /dev/stdout again. Its own root could not give
 * them away, as they belong to an id of the host. A file whose owner cannot change stays as it is.
 */
export function giveStreamsToMapped(
  program: Program,
  { spec, settings }: { spec: Spec; settings?: ProcessSettings },
  streams: readonly { container: Reg | undefined }[],
): void {
  const { tape } = program;
  const { user } = spec.process;
  const uid = settings?.ioUid ?? hostId(spec.linux?.uidMappings ?? [], user.uid);
  const gid = settings?.ioGid ?? hostId(spec.linux?.gidMappings ?? [], user.gid);
  if (!inUserNamespace(spec) || uid === undefined) return;
  for (const { container } of streams) {
    if (container === undefined) continue;
    program.step('process.user', `give a standard stream to user ${uid} of the host`);
    const kept = tape.label('kept');
    tape.syscall('fchown', [container, uid, gid ?? -1], { on: { any: kept } });
    tape.place(kept);
  }
}
