/** process.scheduler, process.ioPriority, core scheduling: how the kernel serves the program among others. */
import {
  IOPRIO_CLASS_SHIFT,
  IOPRIO_WHO_PROCESS,
  PR_SCHED_CORE,
  PR_SCHED_CORE_CREATE,
} from '../../linux/constants.ts';
import { ioClasses, schedulerFlags, schedulerPolicies } from '../../linux/process-flags.ts';
import { encode } from '../../linux/structs.ts';
import { sizeOf } from '../../linux/structs-layout.ts';
import type { Process, Spec } from '../../oci/types.ts';
import type { Program } from './program.ts';

/** A container whose value is `true` shares no core with any other task: prctl(2), PR_SCHED_CORE. */
export const CORE_SCHEDULING = 'org.wherry.core-scheduling';
/** PIDTYPE_TGID of PR_SCHED_CORE: every thread of the process, and what it forks later. */
const WHOLE_PROCESS = 1;

/** To be called while CAP_SYS_NICE is there. Parts that are not named stay the caller's. */
export function setScheduling(program: Program, process: Pick<Process, 'scheduler' | 'ioPriority'>): void {
  const { tape } = program;
  const { scheduler, ioPriority } = process;
  if (scheduler !== undefined) {
    program.step('process.scheduler', `schedule by ${scheduler.policy}`);
    const attributes = encode('sched_attr', {
      size: sizeOf('sched_attr'),
      sched_policy: schedulerPolicies[scheduler.policy] ?? 0,
      sched_flags: (scheduler.flags ?? []).reduce((bits, name) => bits | (schedulerFlags[name] ?? 0), 0),
      sched_nice: scheduler.nice ?? 0,
      sched_priority: scheduler.priority ?? 0,
      sched_runtime: scheduler.runtime ?? 0,
      sched_deadline: scheduler.deadline ?? 0,
      sched_period: scheduler.period ?? 0,
    });
    tape.syscall('sched_setattr', [0, tape.struct(attributes), 0]);
  }
  if (ioPriority !== undefined) {
    program.step('process.ioPriority', `serve its I/O as ${ioPriority.class}`);
    const priority = ((ioClasses[ioPriority.class] ?? 0) << IOPRIO_CLASS_SHIFT) | (ioPriority.priority ?? 0);
    tape.syscall('ioprio_set', [IOPRIO_WHO_PROCESS, 0, priority]);
  }
}

/** A cookie of its own. ENODEV: the machine has no threads that share a core, so nothing is left to keep apart. */
export function setCoreScheduling(program: Program, spec: Spec): void {
  if (spec.annotations?.[CORE_SCHEDULING] !== 'true') return;
  const { tape } = program;
  program.step(`annotations["${CORE_SCHEDULING}"]`, 'take a core scheduling cookie of its own');
  const alone = tape.label('alone');
  tape.syscall('prctl', [PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, WHOLE_PROCESS, 0], {
    on: { ENODEV: alone },
  });
  tape.place(alone);
}
