/** `completion`: a script for the caller's shell. */
import { completionFor } from '../completion.ts';
import type { CommandContext } from '../context.ts';

export async function completionCommand({ args, print }: CommandContext): Promise<number> {
  print(completionFor(args[0] ?? ''));
  return 0;
}
