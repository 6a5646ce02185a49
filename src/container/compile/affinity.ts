/** process.execCPUAffinity: where an exec may run, before and after it entered the container's cgroup. */
import { bitMask, MAX_CPUS, parseNumberList } from '../../linux/process-flags.ts';
import type { Process } from '../../oci/types.ts';
import type { Program } from './program.ts';

/**
 * Call with `initial` before the cgroup is entered and with `final` after it; not named: the kernel's own.
 * EINVAL (the cgroup's cpuset has none of these CPUs) is a failure, as with runc.
 */
export function setAffinity(program: Program, process: Process, when: 'initial' | 'final'): void {
  const list = process.execCPUAffinity?.[when];
  const cpus = parseNumberList(list ?? '', MAX_CPUS) ?? [];
  if (cpus.length === 0) return;
  program.step(`process.execCPUAffinity.${when}`, `run on the CPUs ${list}`);
  const mask = bitMask(cpus);
  program.tape.syscall('sched_setaffinity', [0, mask.length, program.tape.bytes(mask)]);
}
