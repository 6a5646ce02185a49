/**
 * NOTIFY_SOCKET, as runc has it: a folder of the state directory is mounted at /run/notify; a socket in it is there from the start
 * on, and whoever starts the container tells the service manager when the program says that it is ready.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../errors.ts';
import { errnoText } from '../linux/errno.ts';
import type { Spec } from '../oci/types.ts';
import { playError } from '../tape/outcome.ts';
import { compileNotify, isNotifyAddress, NOTIFY_FILE, notifySockets } from './compile/notify.ts';
import type { PlayHost } from './play.ts';

const FOLDER = 'notify';
const PLACE = '/run/notify';

/** What a caller's service manager wants to know. */
export interface NotifyRequest {
  /** Where it listens, as sd_notify(3) has it. */
  socket: string;
  /** The process that it has started: it tells. */
  host: PlayHost;
  /** Hears why nobody will be told; the container starts nevertheless. */
  warn(problem: string): void;
}

/** Makes the folder in the state directory and returns the configuration that shows it. */
export async function prepareNotify(spec: Spec, stateDir: string): Promise<Spec> {
  await mkdir(join(stateDir, FOLDER), { mode: 0o755 });
  return withNotify(spec, stateDir);
}

/** The configuration that a container of this state directory came from, of the one that its bundle has. */
export function asPrepared(spec: Spec, stateDir: string): Spec {
  return existsSync(join(stateDir, FOLDER)) ? withNotify(spec, stateDir) : spec;
}

function withNotify(spec: Spec, stateDir: string): Spec {
  const folder = join(stateDir, FOLDER);
  const options = ['bind', 'nosuid', 'noexec', 'nodev', 'ro'];
  const mount = { destination: PLACE, type: 'bind', source: folder, options };
  const others = (spec.process.env ?? []).filter((entry) => !entry.startsWith('NOTIFY_SOCKET='));
  return {
    ...spec,
    mounts: [...(spec.mounts ?? []), mount],
    process: { ...spec.process, env: [...others, `NOTIFY_SOCKET=${PLACE}/${NOTIFY_FILE}`] },
  };
}

/**
 * Before the program runs: from then on the host carries its READY= to the manager. Of a container that was created without a
 * NOTIFY_SOCKET nothing can be heard, and nobody waits for it.
 * @param init 0: that of the play that comes next
 */
export async function listenForReady(
  { socket, host, warn }: NotifyRequest,
  { token, stateDir, init, staying }: { token: bigint; stateDir: string; init: number; staying: boolean },
): Promise<void> {
  const untold = (why: string) => warn(`NOTIFY_SOCKET: nobody hears when the container is ready: ${why}`);
  if (!isNotifyAddress(socket)) {
    untold(
      `expected the path of a socket, or @ and the name of an abstract one, found ${JSON.stringify(socket)}`,
    );
    return;
  }
  if (host.notify === undefined) throw new WherryError('internal', 'NOTIFY_SOCKET without a client');
  const tape = compileNotify(join(stateDir, FOLDER), socket);
  const result = await host.play(token, tape.image, { inProcess: true });
  const error = playError(tape, result);
  if (error !== undefined) throw error;
  const sockets = notifySockets(result.page);
  if (sockets === undefined) return;
  if ('errno' in sockets) untold(`connect to ${socket}: ${errnoText(sockets.errno)}`);
  else host.notify({ ...sockets, init, staying });
}
