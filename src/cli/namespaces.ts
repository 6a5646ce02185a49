/** Callers in other namespaces: wherryd opens the paths they name, so both must see the same files. */
import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { WherryError } from '../errors.ts';
import type { ClientSession } from './session.ts';

let own: { mnt: bigint; user: bigint } | undefined;

function inode(type: string): bigint {
  return statSync(`/proc/self/ns/${type}`, { bigint: true }).ino;
}

/**
 * @param path absolute, as the caller sees it
 * @throws WherryError failed-precondition when the path is another file for the caller, or its user namespace is not ours
 */
export async function assertSameView(session: ClientSession, path: string, where: string): Promise<void> {
  own ??= { mnt: inode('mnt'), user: inode('user') };
  const { mnt, user } = session.request.namespaces;
  if (user !== 0n && user !== own.user)
    throw elsewhere('the caller is in another user namespace than wherryd', where);
  if (mnt === 0n || mnt === own.mnt) return;
  const seen = await identity(`/proc/${session.request.pid}/root${path}`);
  if (seen === undefined || seen !== (await identity(path))) {
    throw elsewhere(
      `the caller is in another mount namespace than wherryd, where ${path} is not the same file`,
      where,
    );
  }
}

async function identity(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function elsewhere(message: string, where: string): WherryError {
  return new WherryError('failed-precondition', message, {
    path: where,
    hint: 'give it a wherryd of its own: set WHERRY_RUN_DIR to a folder that only these namespaces use',
  });
}
