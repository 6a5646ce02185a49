/** Which security modules this host has, and the refusal by name of labels that none of them would take. */
import { readFileSync } from 'node:fs';
import { WherryError } from '../errors.ts';
import type { Spec } from '../oci/types.ts';

export interface HostLsm {
  apparmor: boolean;
  selinux: boolean;
}

let host: HostLsm | undefined;

/** Asked once; both are decided when the kernel boots. Files of sysfs and procfs never block. */
export function hostLsm(): HostLsm {
  host ??= {
    apparmor: read('/sys/module/apparmor/parameters/enabled').startsWith('Y'),
    // The kernel may have SELinux and no policy; a mounted selinuxfs is what its own library asks for.
    selinux: / selinuxfs /.test(read('/proc/self/mounts')),
  };
  return host;
}

/** @throws WherryError failed-precondition: the container would run unconfined although it asks for confinement */
export function checkLabels(
  { process, linux }: Pick<Spec, 'process' | 'linux'>,
  lsm: HostLsm = hostLsm(),
): void {
  const { apparmorProfile = '', selinuxLabel = '' } = process;
  if (apparmorProfile !== '' && apparmorProfile !== 'unconfined' && !lsm.apparmor) {
    throw refusal('process.apparmorProfile', 'apparmor', 'AppArmor');
  }
  if (selinuxLabel !== '' && !lsm.selinux) throw refusal('process.selinuxLabel', 'selinux', 'SELinux');
  if ((linux?.mountLabel ?? '') !== '' && !lsm.selinux)
    throw refusal('linux.mountLabel', 'selinux', 'SELinux');
}

function refusal(path: string, module: string, name: string): WherryError {
  return new WherryError(
    'failed-precondition',
    `config.json: ${path}: ${module} is disabled or not supported on this host`,
    { path, hint: `remove ${path}, or boot a kernel with ${name} enabled` },
  );
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
