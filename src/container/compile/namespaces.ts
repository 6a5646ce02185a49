/** linux.namespaces: new ones are flags of clone3, given paths are joined with setns(2). */
import {
  AT_FDCWD,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  NS_GET_USERNS,
  O_CLOEXEC,
  O_RDONLY,
} from '../../linux/constants.ts';
import type { NamespaceType, Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

const flags: Record<NamespaceType, number> = {
  pid: CLONE_NEWPID,
  network: CLONE_NEWNET,
  ipc: CLONE_NEWIPC,
  uts: CLONE_NEWUTS,
  mount: CLONE_NEWNS,
  cgroup: CLONE_NEWCGROUP,
  user: CLONE_NEWUSER,
  time: CLONE_NEWTIME,
};

export interface JoinedNamespace {
  type: NamespaceType;
  flag: number;
  descriptor: Reg;
  path: string;
}

/** Without one the container has the host's mounts, and only another root. */
export function hasMountNamespace(spec: Spec): boolean {
  return (spec.linux?.namespaces ?? []).some(({ type }) => type === 'mount');
}

/** A namespace of this type is made for the container. */
export function hasNewNamespace(spec: Spec, type: NamespaceType): boolean {
  return (spec.linux?.namespaces ?? []).some((entry) => entry.type === type && (entry.path ?? '') === '');
}

/**
 * Flags for clone3. The cgroup namespace is left out: on v1 it is entered after the attach (hazards B15); the time
 * namespace, too: it takes its offsets before anybody is in it.
 */
export function newNamespaceFlags(spec: Spec): number {
  let all = 0;
  for (const { type, path } of spec.linux?.namespaces ?? []) {
    if ((path ?? '') === '' && type !== 'cgroup' && type !== 'time') all |= flags[type];
  }
  return all;
}

/**
 * Opens the namespaces that are to be joined, on the host, where their paths mean what the caller means. `joinOwner`: the path of the user
 * namespace is that of a namespace which it owns (ioctl_ns(2)).
 */
export function openNamespaces(program: Program, spec: Spec, joinOwner = false): JoinedNamespace[] {
  const joined: JoinedNamespace[] = [];
  (spec.linux?.namespaces ?? []).forEach(({ type, path }, index) => {
    if (path === undefined || path === '') return;
    const owner = joinOwner && type === 'user';
    const what = owner ? `user namespace that owns ${path}` : `${type} namespace ${path}`;
    program.step(`linux.namespaces[${index}].path`, `open the ${what}`);
    const named = program.tape.syscall('openat', [AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0]);
    const descriptor = owner ? program.tape.syscall('ioctl', [named, NS_GET_USERNS, 0]) : named;
    if (owner) program.close(named);
    joined.push({ type, flag: flags[type], descriptor, path: `linux.namespaces[${index}].path` });
  });
  return joined;
}

/**
 * In the player, before the clone. A pid namespace is entered by children only. Where a user namespace is joined, all
 * others come before it, as it takes away the right to join those it does not own, and new ones are then owned by it;
 * a mount namespace is left to the init, as paths still mean the host's.
 */
export function joinBeforeClone(program: Program, joined: readonly JoinedNamespace[]): void {
  const user = joined.find(({ type }) => type === 'user');
  for (const namespace of joined)
    if (inPlayer(namespace, user) && namespace !== user) joinNamespace(program, namespace);
  if (user !== undefined) joinNamespace(program, user);
}

/** In the init: what the player has left. */
export function joinAfterClone(program: Program, joined: readonly JoinedNamespace[]): void {
  const user = joined.find(({ type }) => type === 'user');
  for (const namespace of joined) if (!inPlayer(namespace, user)) joinNamespace(program, namespace);
}

function inPlayer({ type }: JoinedNamespace, user: JoinedNamespace | undefined): boolean {
  return type === 'pid' || (user !== undefined && type !== 'mount' && type !== 'cgroup');
}

export function joinNamespace(program: Program, namespace: JoinedNamespace): void {
  program.step(namespace.path, `join the ${namespace.type} namespace`);
  program.tape.syscall('setns', [namespace.descriptor, namespace.flag]);
  program.close(namespace.descriptor);
}
