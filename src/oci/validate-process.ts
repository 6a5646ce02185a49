/** What several fields of `process`, `linux.personality` and `linux.memoryPolicy` say together, and lists whose items the schema leaves open. */
import { MAX_CPUS, MAX_NODES, parseNumberList, personalityFlags } from '../linux/process-flags.ts';
import type { Linux, Process } from './types.ts';

type Report = (path: string, expected: string, found: unknown) => void;

const LEAST_NICE = -20;
const MOST_NICE = 19;
const realTime = ['SCHED_FIFO', 'SCHED_RR'];
const nodeless = ['MPOL_DEFAULT', 'MPOL_LOCAL'];

function checkScheduler(scheduler: NonNullable<Process['scheduler']>, report: Report): void {
  const at = (field: string): string => `process.scheduler.${field}`;
  const { policy, nice = 0, priority = 0 } = scheduler;
  if (policy === 'SCHED_ISO')
    report(at('policy'), 'a policy that kernels have (SCHED_ISO is reserved)', policy);
  if (nice < LEAST_NICE || nice > MOST_NICE) {
    report(at('nice'), `an integer from ${LEAST_NICE} to ${MOST_NICE}`, nice);
  }
  if (realTime.includes(policy)) {
    if (priority < 1 || priority > 99)
      report(at('priority'), `an integer from 1 to 99 with ${policy}`, priority);
  } else if (priority !== 0) {
    report(at('priority'), 'no priority but with SCHED_FIFO or SCHED_RR', priority);
  }
  if (policy === 'SCHED_DEADLINE') {
    const { runtime = 0, deadline = 0, period = 0 } = scheduler;
    if (runtime <= 0) report(at('runtime'), 'nanoseconds, with SCHED_DEADLINE', runtime);
    else if (deadline < runtime) report(at('deadline'), `at least the runtime, ${runtime}`, deadline);
    else if (period !== 0 && BigInt(period) !== 0n && period < deadline)
      report(at('period'), `at least the deadline, ${deadline}`, period);
    return;
  }
  for (const field of ['runtime', 'deadline', 'period'] as const) {
    if (Number(scheduler[field] ?? 0) !== 0) {
      report(at(field), `no ${field} but with SCHED_DEADLINE`, scheduler[field]);
    }
  }
}

/** Shared by config.json's process and an exec's. */
export function validateAttributes(process: Process, report: Report): void {
  if (process.scheduler !== undefined) checkScheduler(process.scheduler, report);
  for (const when of ['initial', 'final'] as const) {
    const list = process.execCPUAffinity?.[when];
    if (list === undefined || parseNumberList(list, MAX_CPUS) !== undefined) continue;
    report(`process.execCPUAffinity.${when}`, `CPUs such as 0-3,7, below ${MAX_CPUS}`, list);
  }
}

export function validateMemory(linux: Pick<Linux, 'memoryPolicy' | 'personality'>, report: Report): void {
  for (const [index, flag] of (linux.personality?.flags ?? []).entries()) {
    if (Object.hasOwn(personalityFlags, flag)) continue;
    report(`linux.personality.flags[${index}]`, `one of ${Object.keys(personalityFlags).join(', ')}`, flag);
  }
  const policy = linux.memoryPolicy;
  if (policy === undefined) return;
  const nodes = parseNumberList(policy.nodes ?? '', MAX_NODES);
  if (nodes === undefined) {
    report('linux.memoryPolicy.nodes', `memory nodes such as 0-3,7, below ${MAX_NODES}`, policy.nodes);
    return;
  }
  const { mode, flags = [] } = policy;
  if (nodeless.includes(mode)) {
    if (nodes.length > 0) report('linux.memoryPolicy.nodes', `no nodes with ${mode}`, policy.nodes);
  } else if (nodes.length === 0 && mode !== 'MPOL_PREFERRED') {
    report('linux.memoryPolicy.nodes', `at least one memory node with ${mode}`, policy.nodes);
  }
  if (flags.includes('MPOL_F_STATIC_NODES') && flags.includes('MPOL_F_RELATIVE_NODES')) {
    report('linux.memoryPolicy.flags', 'either MPOL_F_STATIC_NODES or MPOL_F_RELATIVE_NODES', flags);
  }
}
