/**
 * The first containers of a daemon would pay for V8's rehearsal, several milliseconds each. In the quiet moments after its start wherryd therefore
 * compiles the default bundle's tape some times, a few at once; nothing is played.
 */
import type { CgroupHost } from '../cgroup/hierarchy.ts';
import { planCgroup } from '../cgroup/plan.ts';
import { parseConfig } from '../oci/config.ts';
import { defaultSpec } from '../oci/defaults.ts';
import { compileCreate } from './compile/create.ts';

const ROUNDS = 40;
const AT_ONCE = 4;
/** Between two rounds, so that a caller never waits for more than one. */
const PAUSE_MS = 4;

export function rehearse(cgroups: CgroupHost): void {
  const bytes = Buffer.from(JSON.stringify(defaultSpec({ cgroupVersion: cgroups.mode === 'v2' ? 2 : 1 })));
  let left = ROUNDS;
  const round = (): void => {
    for (let n = 0; n < AT_ONCE; n++) compileOnce(bytes, cgroups);
    if (--left > 0) setTimeout(round, PAUSE_MS).unref();
  };
  round();
}

function compileOnce(bytes: Uint8Array, cgroups: CgroupHost): void {
  const { config } = parseConfig(bytes);
  const id = 'rehearsal';
  const nothing = { exists: (path: string) => !path.includes(id), read: () => undefined };
  compileCreate({
    token: 0n,
    id,
    spec: { ...config, process: { ...config.process, terminal: false } },
    bundle: '/',
    rootfs: '/',
    rootfsMounts: [],
    stateDir: '/',
    libexec: '/',
    stdio: { kind: 'inherit' },
    cgroup: planCgroup(cgroups, { cgroupsPath: `/${id}`, id, resources: config.linux?.resources }, nothing),
    cgroups,
    seccomp: undefined,
    startAtOnce: true,
  });
}
