/** wherryd's entry: the daemon with containerd's side plugged in. */
import { runDaemon } from '../src/daemon/daemon.ts';
import { runDaemonless } from '../src/daemon/daemonless.ts';
import { createShimServices } from './main.ts';

export async function main(): Promise<void> {
  if (process.env['WHERRY_ONESHOT'] === '1') runDaemonless();
  else await runDaemon(createShimServices);
}

if (import.meta.main) await main();
