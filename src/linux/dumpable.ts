/** This process's own protection from others of its user: prctl(2), PR_SET_DUMPABLE. */
import { currentArch } from './arch.ts';
import { PR_SET_DUMPABLE } from './constants.ts';
import { libc } from './library.ts';
import { syscallNumber } from './syscalls.ts';

/** From here on nobody without CAP_SYS_PTRACE over the host may trace this process, read its memory or take its descriptors. */
export function hideFromTracers(): void {
  const call = libc().func('long syscall(long number, long a, long b, long c, long d)');
  call(syscallNumber('prctl', currentArch()), PR_SET_DUMPABLE, 0, 0, 0);
}
