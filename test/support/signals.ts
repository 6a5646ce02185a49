/** What a process does about signals, as /proc/PID/status tells. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { eventually } from './run.ts';

/**
 * Resolves when the process has a handler for SIGTERM. The init of a pid namespace does not hear a signal before
 * (pid_namespaces(7)): one that comes between a container's start and its program's `trap` is lost.
 */
export async function handlesTerm(pid: () => number | Promise<number>): Promise<void> {
  await eventually('there is a handler for SIGTERM', async () => {
    const status = readFileSync(`/proc/${await pid()}/status`, 'latin1');
    const caught = BigInt(`0x${/SigCgt:\s*(\w+)/.exec(status)?.[1] ?? '0'}`);
    return (caught & (1n << BigInt(constants.signals.SIGTERM - 1))) !== 0n || undefined;
  });
}
