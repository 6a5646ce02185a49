/** Conditions that a case may have; each is asked of the machine once. */
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';

const checks: Record<string, () => boolean> = {
  'cgroup-v1': () => !existsSync('/sys/fs/cgroup/cgroup.controllers'),
  'cgroup-v2': () => existsSync('/sys/fs/cgroup/cgroup.controllers'),
  apparmor: () => existsSync('/sys/kernel/security/apparmor'),
  /** With the policy of test/vm/security-modules. */
  selinux: () => isTestPolicy(),
  'no-apparmor': () => !existsSync('/sys/kernel/security/apparmor'),
  'no-selinux': () => !existsSync('/sys/fs/selinux/enforce'),
  'no-core-scheduling': () => !coreScheduling(),
  'no-filter-of-its-own': () => /^Seccomp:\s*0$/m.test(readFileSync('/proc/self/status', 'utf8')),
  'apparmor-wherry-test': () => {
    const profiles = '/sys/kernel/security/apparmor/profiles';
    return existsSync(profiles) && /^wherry-test /m.test(readFileSync(profiles, 'utf8'));
  },
  /** Linux 6.3 */
  'idmapped-tmpfs': () => {
    const [major = 0, minor = 0] = release().split('.').map(Number);
    return major > 6 || (major === 6 && minor >= 3);
  },
  resctrl: () => existsSync('/sys/fs/resctrl/info'),
  'no-resctrl': () => !existsSync('/sys/fs/resctrl/info'),
  'time-namespaces': () => existsSync('/proc/self/ns/time'),
  'two-cpus': () => /^0-/.test(readFileSync('/sys/devices/system/cpu/online', 'utf8')),
  'cap-sys-resource': () => (effective() & (1n << 24n)) !== 0n,
  'cap-sys-nice': () => (effective() & (1n << 23n)) !== 0n,
};

/**
 * What neither a usual machine for tests nor the guest of `npm run test:vm` has. Cases with such a need are shown by their golden tapes
 * alone, and each has a line in docs/not-shown-here.md.
 */
export const nowhere: readonly string[] = ['resctrl', 'rdma'];

/** Kernels without it answer EINVAL to prctl(2), PR_SCHED_CORE; those with it show a field of /proc/self/sched only while it is used. */
function coreScheduling(): boolean {
  return readFileSync('/proc/kallsyms', 'utf8').includes(' sched_core_share_pid');
}

/** A context that the loaded policy has not is no valid one (selinuxfs, `context`). */
function isTestPolicy(): boolean {
  try {
    const file = openSync('/sys/fs/selinux/context', 'r+');
    try {
      return writeSync(file, 'system_u:object_r:protected_t:s0') > 0;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}

function effective(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return BigInt(`0x${line?.[1] ?? '0'}`);
}

/** The first need that is not met; undefined: all are. */
export function unmet(needs: readonly string[] = []): string | undefined {
  return needs.find((need) => {
    const check = Object.hasOwn(checks, need) ? checks[need] : undefined;
    if (check === undefined) throw new Error(`no check for the need ${need}`);
    return !check();
  });
}
