/** linux.namespaces: new ones are flags of clone3, given paths are joined with setns(2). */
import { WherryError } from '../../errors.ts';
import {
  AT_FDCWD,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWUTS,
  O_CLOEXEC,
  O_RDONLY,
} from '../../linux/constants.ts';
import type { NamespaceType, Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

const flags: Partial<Record<NamespaceType, number>> = {
  pid: CLONE_NEWPID,
  network: CLONE_NEWNET,
  ipc: CLONE_NEWIPC,
  uts: CLONE_NEWUTS,
  mount: CLONE_NEWNS,
  cgroup: CLONE_NEWCGROUP,
};

export interface JoinedNamespace {
  type: NamespaceType;
  flag: number;
  descriptor: Reg;
  path: string;
}

/** A namespace of this type is made for the container. */
export function hasNewNamespace(spec: Spec, type: NamespaceType): boolean {
  return (spec.linux?.namespaces ?? []).some((entry) => entry.type === type && (entry.path ?? '') === '');
}

/** Flags for clone3; the cgroup namespace is left out: on v1 it is entered after the attach (hazards B15). */
export function newNamespaceFlags(spec: Spec): number {
  let all = 0;
  for (const { type, path } of spec.linux?.namespaces ?? []) {
    if ((path ?? '') === '' && type !== 'cgroup') all |= flagOf(type);
  }
  return all;
}

/** Opens the namespaces that are to be joined, on the host, where their paths mean what the caller means. */
export function openNamespaces(program: Program, spec: Spec): JoinedNamespace[] {
  const joined: JoinedNamespace[] = [];
  (spec.linux?.namespaces ?? []).forEach(({ type, path }, index) => {
    if (path === undefined || path === '') return;
    program.step(`linux.namespaces[${index}].path`, `open the ${type} namespace ${path}`);
    const descriptor = program.tape.syscall('openat', [AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0]);
    joined.push({ type, flag: flagOf(type), descriptor, path: `linux.namespaces[${index}].path` });
  });
  return joined;
}

export function joinNamespace(program: Program, namespace: JoinedNamespace): void {
  program.step(namespace.path, `join the ${namespace.type} namespace`);
  program.tape.syscall('setns', [namespace.descriptor, namespace.flag]);
  program.close(namespace.descriptor);
}

function flagOf(type: NamespaceType): number {
  const flag = flags[type];
  if (flag === undefined) {
    throw new WherryError('unimplemented', `linux.namespaces: ${type} namespaces are not supported yet`, {
      path: 'linux.namespaces',
    });
  }
  return flag;
}
