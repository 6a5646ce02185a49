/** What the first container would wait for, made while nobody waits: the filter of docker's default profile takes milliseconds. */

import type { Logger } from '../container/runtime.ts';
import { compileSeccomp } from '../linux/seccomp.ts';
import { launchSpec } from '../oci/launch.ts';

/** The clients that started the daemon are served first. */
const DELAY_MS = 50;

export function warmUp(log: Logger): void {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  setTimeout(() => {
    const profile = launchSpec({ id: 'x', args: ['x'], machine }).linux?.seccomp;
    if (profile === undefined) return;
    // Without libseccomp the container that needs it says so.
    compileSeccomp(profile).catch((error: unknown) =>
      log.debug('no filter was made in advance', { error: String(error) }),
    );
  }, DELAY_MS).unref();
}
