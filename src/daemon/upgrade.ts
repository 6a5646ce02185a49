/** The programs of the installation that a client is of, for an upgrade to them. */
import { accessSync, constants, readlinkSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ClientRequest } from '../cli/session.ts';
import { WherryError } from '../errors.ts';
import type { KeelLink, KeelPrograms } from './keel-link.ts';

/** Resolves when it is done, which another wherryd than the one that began it finds. */
export async function upgrade(keel: KeelLink, connection: bigint, request: ClientRequest): Promise<void> {
  const { upgrade: last } = await keel.status();
  if (last.connection !== connection) {
    const { result, text } = await keel.upgrade(connection, programsOf(request));
    throw new WherryError('failed-precondition', text === '' ? 'an upgrade is under way' : text, {
      errno: -result,
      hint: 'nothing has changed',
    });
  }
  if (last.result !== 0) {
    throw new WherryError('failed-precondition', `the upgrade was undone: ${last.text}`, {
      hint: 'the programs before run again, nothing is lost',
    });
  }
}

/** As the client itself finds them (native/client_start.c). */
function programsOf({ pid, env }: ClientRequest): KeelPrograms {
  const named = env['WHERRY_LIBEXEC'];
  const libexec =
    named === undefined || named === ''
      ? join(dirname(readlinkSync(`/proc/${pid}/exe`)), '../libexec/wherry')
      : realpathSync(named);
  const at = (name: string, mode: number): string => {
    const path = join(libexec, name);
    try {
      accessSync(path, mode);
    } catch (cause) {
      throw new WherryError('failed-precondition', `the installation is incomplete: ${path} cannot be used`, {
        cause,
      });
    }
    return path;
  };
  return {
    keel: at('keel', constants.X_OK),
    player: at('player', constants.X_OK),
    command: wherryd(at, env['WHERRY_WHERRYD']),
  };
}

function wherryd(at: (name: string, mode: number) => string, named: string | undefined): string[] {
  if (named !== undefined && named !== '') return [named];
  try {
    return [at('wherryd', constants.X_OK)];
  } catch {
    return [at('node', constants.X_OK), ...process.execArgv, at('wherryd.mjs', constants.R_OK)];
  }
}
