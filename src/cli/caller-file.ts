/** Small files that a caller names: read as that caller sees them. */
import { readFile, stat } from 'node:fs/promises';
import { WherryError } from '../errors.ts';
import { reason } from './bundle.ts';
import { type CommandContext, callerPath } from './context.ts';
import { assertSameView } from './namespaces.ts';
import { invalidValue } from './parse.ts';

/** not-found with `where` as its path; invalid-argument for one of more than `most` bytes. */
export async function readCallerFile(
  context: CommandContext,
  file: string,
  where: string,
  most = Number.POSITIVE_INFINITY,
): Promise<Buffer> {
  const path = callerPath(context, file);
  await assertSameView(context.session, path, where);
  try {
    const { size } = await stat(path);
    if (size > most) throw invalidValue(where, file, `the file has ${size} bytes, at most ${most} are read`);
    return await readFile(path);
  } catch (error) {
    if (error instanceof WherryError) throw error;
    throw new WherryError('not-found', `open ${file}: ${reason(error)}`, { path: where, cause: error });
  }
}

/** The same, and `-` is standard input. */
export async function readDocument(
  context: CommandContext,
  file: string,
  where: string,
): Promise<Uint8Array> {
  return file === '-' ? context.session.readStdin() : readCallerFile(context, file, where);
}

/** How an error calls it. */
export function documentName(file: string): string {
  return file === '-' ? 'standard input' : file;
}
