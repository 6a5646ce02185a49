/** Memory of processes as smaps_rollup has it: proportional set size, so that shared pages are counted once. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Kilobytes. */
export function pss(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    total += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
  }
  return total;
}

/** Processes whose program and environment answer to the test. */
export function processes(
  matches: (program: string, environment: readonly string[], command: readonly string[]) => boolean,
): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const split = (file: string): string[] => readFileSync(`/proc/${name}/${file}`, 'utf8').split('\0');
      return matches(readlinkSync(`/proc/${name}/exe`), split('environ'), split('cmdline'))
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}
