/** `explain`: how a bundle becomes a container, as text. */
import { basename } from 'node:path';
import { readBundle } from '../bundle.ts';
import type { CommandContext } from '../context.ts';

export async function explainCommand(context: CommandContext): Promise<number> {
  const { deps, args, print } = context;
  const { path } = await readBundle(context, args[0] === '' ? undefined : args[0], 'BUNDLE');
  const text = await deps.explain(path, basename(path) || 'explained');
  print(text.endsWith('\n') ? text : `${text}\n`);
  return 0;
}
