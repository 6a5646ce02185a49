/** `spec`: a config.json to start from. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { WherryError } from '../../errors.ts';
import { defaultSpec } from '../../oci/defaults.ts';
import { assertFolder, errnoName, reason } from '../bundle.ts';
import { type CommandContext, callerPath } from '../context.ts';
import { goJson } from '../format.ts';
import { assertSameView } from '../namespaces.ts';

export async function specCommand(context: CommandContext): Promise<number> {
  const { session, deps, flags } = context;
  const named = flags.text('bundle');
  const folder = callerPath(context, named ?? '.');
  await assertSameView(session, folder, '--bundle');
  await assertFolder(folder, named ?? folder, '--bundle');
  const name = flags.text('file') ?? 'config.json';
  const path = resolve(folder, name);
  const { uid, gid, umask } = session.request;
  const rootless = flags.on('rootless') ? { uid, gid } : undefined;
  try {
    const { O_CREAT, O_EXCL, O_WRONLY } = constants;
    await using file = await open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    await file.writeFile(goJson(defaultSpec({ cgroupVersion: deps.cgroupVersion, rootless }), '\t'));
    // wherryd's umask is not the caller's.
    await file.chmod(0o666 & ~umask);
  } catch (error) {
    if (errnoName(error) === 'EEXIST') {
      throw new WherryError('already-exists', `File ${name} exists. Remove it first`, {
        hint: `it is ${path}`,
      });
    }
    throw new WherryError('failed-precondition', `cannot write ${path}: ${reason(error)}`, {
      path: '--bundle',
      cause: error,
    });
  }
  return 0;
}
