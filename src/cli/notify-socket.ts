/** NOTIFY_SOCKET of the caller (sd_notify(3)): its service manager is to hear when the container's program is ready. */
import type { NotifyRequest } from '../container/notify.ts';
import type { CommandContext } from './context.ts';

/** undefined: the caller has no service manager that waits. */
export function notifyRequest({ session, warn }: CommandContext): NotifyRequest | undefined {
  const socket = session.request.env['NOTIFY_SOCKET'] ?? '';
  return socket === '' ? undefined : { socket, host: session, warn };
}
