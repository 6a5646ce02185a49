/** linux.timeOffsets: a time namespace takes offsets only while nobody is in it (time_namespaces(7)), so it is entered last. */
import { AT_FDCWD, CLONE_NEWTIME, O_CLOEXEC, O_RDONLY } from '../../linux/constants.ts';
import type { Spec } from '../../oci/types.ts';
import { hasNewNamespace } from './namespaces.ts';
import type { Program } from './program.ts';

/** In the init, while its files in /proc are still its own. */
export function enterTimeNamespace(program: Program, spec: Spec): void {
  if (!hasNewNamespace(spec, 'time')) return;
  const { tape } = program;
  program.step('linux.namespaces', 'make the time namespace');
  tape.syscall('unshare', [CLONE_NEWTIME]);
  for (const [clock, offset] of Object.entries(spec.linux?.timeOffsets ?? {})) {
    if (offset === undefined) continue;
    const text = `${clock} ${offset.secs ?? 0} ${offset.nanosecs ?? 0}\n`;
    program.writeFile('/proc/self/timens_offsets', text, `linux.timeOffsets.${clock}`);
  }
  program.step('linux.namespaces', 'enter the time namespace');
  const path = '/proc/self/ns/time_for_children';
  const namespace = tape.syscall('openat', [AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0]);
  tape.syscall('setns', [namespace, CLONE_NEWTIME]);
  program.close(namespace);
}
