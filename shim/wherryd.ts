/** wherryd's entry: the daemon with containerd's side plugged in. */
import { runDaemon } from '../src/daemon/daemon.ts';
import { createShimServices } from './main.ts';

export async function main(): Promise<void> {
  await runDaemon(createShimServices);
}

if (import.meta.main) await main();
