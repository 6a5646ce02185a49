/**
 * NOTIFY_SOCKET (sd_notify(3)): a program in the container may tell the caller's service manager that it is ready. The socket is
 * bound to the place where runc puts it; what is sent goes straight to the service manager, which sees the program's own pid.
 */
import { WherryError } from '../errors.ts';
import type { Spec } from '../oci/types.ts';

const PLACE = '/run/notify/notify.sock';

/** The configuration with the socket of the caller's environment; the same one where there is none. */
export function withNotifySocket(config: Spec, env: Readonly<Record<string, string | undefined>>): Spec {
  const socket = env['NOTIFY_SOCKET'] ?? '';
  if (socket === '') return config;
  if (!socket.startsWith('/')) {
    throw new WherryError(
      'unimplemented',
      `NOTIFY_SOCKET: expected the path of a socket, found ${JSON.stringify(socket)}: abstract sockets cannot be reached from a container`,
      { path: 'NOTIFY_SOCKET', hint: 'unset NOTIFY_SOCKET' },
    );
  }
  const mount = {
    destination: PLACE,
    type: 'bind',
    source: socket,
    options: ['bind', 'nosuid', 'nodev', 'noexec'],
  };
  const others = (config.process.env ?? []).filter((entry) => !entry.startsWith('NOTIFY_SOCKET='));
  return {
    ...config,
    mounts: [...(config.mounts ?? []), mount],
    process: { ...config.process, env: [...others, `NOTIFY_SOCKET=${PLACE}`] },
  };
}
