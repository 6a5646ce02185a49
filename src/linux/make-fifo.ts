/** mkfifo(3), which Node does not have. */
import koffi from 'koffi';
import { WherryError } from '../errors.ts';
import { currentArch } from './arch.ts';
import { AT_FDCWD, S_IFIFO } from './constants.ts';
import { errnoText } from './errno.ts';
import { libc } from './library.ts';
import { syscallNumber } from './syscalls.ts';

/** For the run folder's tmpfs, where the call does not wait. internal with the errno. */
export function makeFifo(path: string, mode: number): void {
  const call = libc().func(
    'long syscall(long number, long folder, const char *path, long mode, long device)',
  );
  const number = syscallNumber('mknodat', currentArch());
  if (Number(call(number, AT_FDCWD, path, S_IFIFO | mode, 0)) === 0) return;
  const errno = koffi.errno();
  throw new WherryError('internal', `cannot make the FIFO ${path}: ${errnoText(errno)}`, {
    errno,
    syscall: 'mknodat',
  });
}
