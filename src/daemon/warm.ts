/** What the first container would wait for, made while nobody waits: the filter of docker's default profile takes milliseconds. */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { rehearse } from '../container/rehearsal.ts';
import type { Logger } from '../container/types.ts';
import { compileSeccomp } from '../linux/seccomp.ts';
import { launchSpec } from '../oci/launch.ts';

/** After winston was loaded and the first callers, who wait, were served. */
const REHEARSAL_DELAY_MS = 400;
/** The clients that started the daemon are served first. */
const DELAY_MS = 50;

export function warmUp(log: Logger, cgroups: CgroupHost): void {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  setTimeout(() => {
    const profile = launchSpec({ id: 'x', args: ['x'], machine }).linux?.seccomp;
    if (profile === undefined) return;
    // Without libseccomp the container that needs it says so.
    compileSeccomp(profile).catch((error: unknown) =>
      log.debug('no filter was made in advance', { error: String(error) }),
    );
  }, DELAY_MS).unref();
  setTimeout(() => {
    try {
      rehearse(cgroups);
    } catch (error) {
      log.debug('no tape was made in advance', { error: String(error) });
    }
  }, REHEARSAL_DELAY_MS).unref();
}
