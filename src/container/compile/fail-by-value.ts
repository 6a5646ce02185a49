/** Errors that do not come from a system call of the tape itself: a helper's exit status, an answer of the kernel in a message. */
import { type ErrnoName, errnoNumbers } from '../../linux/errno.ts';
import type { Reg } from '../../tape/refs.ts';
import type { Program } from './program.ts';

/**
 * The play fails with the errno that the register stands for, with EIO for one that is not in the list: the instruction FAIL has only
 * fixed numbers.
 * @param encode how an errno looks in the register
 */
export function failByValue(
  program: Program,
  value: Reg,
  errnos: readonly ErrnoName[],
  encode: (errno: number) => number | bigint,
): void {
  const { tape } = program;
  const known = errnos.map((errno) => {
    const label = tape.label(errno);
    tape.jumpIfEqual(value, encode(errnoNumbers[errno]), label);
    return { errno, label };
  });
  tape.fail('EIO');
  for (const { errno, label } of known) {
    tape.place(label);
    tape.fail(errno);
  }
}
