/** A bundle of the caller: the folder and its config.json, read once. */
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { WherryError } from '../errors.ts';
import { readSmallFile } from '../linux/small-file.ts';
import { parseConfig } from '../oci/config.ts';
import type { Spec } from '../oci/types.ts';
import { type CommandContext, callerPath } from './context.ts';
import { assertSameView } from './namespaces.ts';

export interface Bundle {
  /** Absolute. */
  path: string;
  config: Spec;
}

/**
 * @param named the folder as the caller wrote it; undefined: the current one
 * @throws WherryError not-found without folder or config.json, invalid-argument for a bad config.json
 */
export async function readBundle(
  context: CommandContext,
  named: string | undefined,
  where: string,
  config = 'config.json',
): Promise<Bundle> {
  const path = callerPath(context, named ?? '.');
  await assertSameView(context.session, path, where);
  const bytes = await readConfig(resolve(path, config), path, named, where);
  const parsed = parseConfig(bytes);
  for (const warning of parsed.warnings) context.warn(warning);
  return { path, config: parsed.config };
}

async function readConfig(
  file: string,
  path: string,
  named: string | undefined,
  where: string,
): Promise<Buffer> {
  try {
    return await readSmallFile(file);
  } catch (error) {
    await assertFolder(path, named ?? path, where);
    if (errnoName(error) === 'ENOENT') {
      // runc's words; callers look for them.
      throw new WherryError('not-found', `JSON specification file ${basename(file)} not found`, {
        path: where,
        hint: `there is no ${file}; "wherry spec" writes one to start from, ${where} names another folder`,
      });
    }
    throw new WherryError('failed-precondition', `cannot read ${file}: ${reason(error)}`, {
      path: where,
      cause: error,
    });
  }
}

/** The folder is there and is one; the texts are runc's. */
export async function assertFolder(
  path: string,
  named: string,
  where: string,
  hint = 'name the folder that holds config.json and the root filesystem',
): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    const kind = errnoName(error) === 'ENOENT' ? 'not-found' : 'failed-precondition';
    throw new WherryError(kind, `chdir ${named}: ${reason(error)}`, { path: where, hint, cause: error });
  }
  throw new WherryError('invalid-argument', `chdir ${named}: not a directory`, { path: where, hint });
}

export function errnoName(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** "no such file or directory" out of Node's "ENOENT: no such file or directory, open '/x'". */
export function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /^E[A-Z0-9]+: (.*?)(?:, [a-z]+(?: '.*)?)?$/.exec(text)?.[1] ?? text;
}
