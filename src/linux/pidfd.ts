/** Processes by descriptor (pidfd_open(2)), so that a number that went to another process does no harm. */
import { closeSync, readFileSync } from 'node:fs';
import { currentArch } from './arch.ts';
import { libc } from './library.ts';
import { syscallNumber } from './syscalls.ts';

/** Fields of /proc/PID/stat (proc_pid_stat(5)); undefined: there is no such process. */
export function processStat(pid: number): { state: string; startTime: bigint } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startTime: BigInt(fields[19] ?? 0) };
  } catch {
    return undefined;
  }
}

/** Whether it runs still: a zombie does not. */
export function isAlive(pid: number, startTime: bigint): boolean {
  const stat = processStat(pid);
  return stat !== undefined && stat.startTime === startTime && stat.state !== 'Z' && stat.state !== 'X';
}

/** pidfd_send_signal(2) to exactly that process. False: it is gone, or the signal is refused. */
export function signalProcess(pid: number, startTime: bigint, signal: number): boolean {
  const call = libc().func('long syscall(long number, long a, long b, long c, long d)');
  const descriptor = Number(call(syscallNumber('pidfd_open', currentArch()), pid, 0, 0, 0));
  if (descriptor < 0) return false;
  try {
    // Asked after the open: from here on the descriptor is that process.
    if (!isAlive(pid, startTime)) return false;
    return Number(call(syscallNumber('pidfd_send_signal', currentArch()), descriptor, signal, 0, 0)) === 0;
  } finally {
    closeSync(descriptor);
  }
}
