/** linux.mountLabel: the SELinux context of what the container's new filesystems hold (mount(8), "context="), as runc gives it. */
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../../linux/constants.ts';
import type { Spec } from '../../oci/types.ts';
import type { Reg } from '../../tape/refs.ts';
import type { MountOptions } from './mount-options.ts';
import type { Program } from './program.ts';

/** Their files have contexts of their own, by the policy. */
const policys = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'mqueue']);
const named = /^(context|fscontext|defcontext|rootcontext)$/;

/** Parameters of a filesystem with the context, unless they name one. */
export function withLabel(
  spec: Spec,
  type: string,
  parameters: MountOptions['parameters'],
): MountOptions['parameters'] {
  const label = spec.linux?.mountLabel ?? '';
  if (label === '' || policys.has(type) || parameters.some(([name]) => named.test(name))) return parameters;
  return [...parameters, ['context', label]];
}

/** A message queue filesystem takes no context: its folder is labelled. */
export function labelQueues(program: Program, spec: Spec, type: string, tree: Reg): void {
  const label = spec.linux?.mountLabel ?? '';
  if (label === '' || type !== 'mqueue') return;
  const { tape } = program;
  const top = tape.syscall('openat', [tree, '.', O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0]);
  tape.syscall('fsetxattr', [top, 'security.selinux', label, Buffer.byteLength(label) + 1, 0]);
  program.close(top);
}
