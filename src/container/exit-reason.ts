/** Why a container's init ended, as far as its wait status and the kernel's counters say (waitpid(2), signal(7)). */
import { SIGKILL, SIGSYS } from '../linux/constants.ts';
import type { ExitReason } from './types.ts';

const CORE_DUMPED = 0x80;

/** What is known beside the wait status. */
export interface Circumstances {
  /** Processes of the container that the kernel killed for want of memory. */
  oomKills: number;
  /** We sent SIGKILL ourselves. */
  killed: boolean;
  /** It has a seccomp filter. */
  filtered: boolean;
}

export function exitReason(
  waitStatus: number,
  { oomKills, killed, filtered }: Circumstances,
): { reason: ExitReason; signal?: number } {
  const signal = waitStatus & 0x7f;
  if (signal === 0) return { reason: 'exited' };
  if (signal === SIGKILL && oomKills > 0 && !killed) return { reason: 'oom-killed', signal };
  if (signal === SIGSYS && filtered) return { reason: 'seccomp', signal };
  return { reason: (waitStatus & CORE_DUMPED) !== 0 ? 'core-dumped' : 'signaled', signal };
}

/** 0-255, or 128 + signal, from a wait status (waitpid(2)). */
export function exitStatusOf(waitStatus: number): number {
  const signal = waitStatus & 0x7f;
  return signal === 0 ? (waitStatus >> 8) & 0xff : 128 + signal;
}
