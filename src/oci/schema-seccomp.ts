import { seccompActions, seccompArchitectures, seccompFlags, seccompOperators } from './names.ts';
import { filledText, integer, list, named, oneOf, record, text, uint64 } from './schema-values.ts';

const action = oneOf(seccompActions);
/** MAX_ERRNO of the kernel; SECCOMP_RET_DATA would hold 16 bits. */
const errno = integer(0, 4095);

const seccompArg = record({
  index: integer(0, 5),
  value: uint64,
  valueTwo: uint64.optional(),
  op: oneOf(seccompOperators),
});

const seccompSyscall = record({
  names: list(filledText('the name of a system call'), 'a list of at least one system call').min(1, {
    error: 'a list of at least one system call',
  }),
  action,
  errnoRet: errno.optional(),
  args: list(seccompArg, 'a list of argument rules').optional(),
});

/** `linux.seccomp`: config-linux.md, "Seccomp". */
export const seccompSchema = record({
  defaultAction: action,
  defaultErrnoRet: errno.optional(),
  architectures: list(
    named(seccompArchitectures, 'an architecture of libseccomp, such as SCMP_ARCH_X86_64'),
    'a list of architectures',
  ).optional(),
  flags: list(oneOf(seccompFlags), 'a list of flags').optional(),
  listenerPath: text().optional(),
  listenerMetadata: text().optional(),
  syscalls: list(seccompSyscall, 'a list of rules').optional(),
});
