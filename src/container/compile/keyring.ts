/** A session keyring of its own, so that keys of whoever started us are not there (session-keyring(7)). */
import { KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM } from '../../linux/constants.ts';
import type { Program } from './program.ts';

/**
 * What the kernel gives a new session keyring (all to its possessor; view, read and link to its user: security/keys/process_keys.c),
 * and search for the user, so that processes which join the container find the keys too.
 */
const PERMISSIONS = 0x3f1b_0000;

/** A kernel without keyrings, or an account whose key quota is used up, is no reason not to start. */
export function joinKeyring(program: Program, input: { id: string; noNewKeyring?: boolean }): void {
  if (input.noNewKeyring === true) return;
  const { tape } = program;
  program.step('', 'join a new session keyring');
  const without = tape.label('without');
  const name = `_ses.${input.id}`;
  const keyring = tape.syscall('keyctl', [KEYCTL_JOIN_SESSION_KEYRING, name], {
    on: { ENOSYS: without, EACCES: without, EDQUOT: without, EPERM: without },
  });
  tape.perform('keyctl', [KEYCTL_SETPERM, keyring, PERMISSIONS], { EACCES: without });
  tape.place(without);
}
