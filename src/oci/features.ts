/**
 * The features document (runtime-spec features.md). What the core refuses by name is asked of the table of refusals, so the
 * document cannot promise what `create` would not do.
 */
import { memoryFlags, memoryModes } from '../linux/process-flags.ts';
import { actionCodes, operatorCodes } from '../linux/seccomp-library.ts';
import {
  capabilityNames,
  namespaceTypes,
  seccompActions,
  seccompArchitectures,
  seccompFlags,
} from './names.ts';
import { unsupported } from './supported.ts';
import type { Spec } from './types.ts';

export interface FeaturesInput {
  /** Of the release. */
  version: string;
  commit: string;
  /** undefined: not installed on this machine. */
  libseccomp: string | undefined;
}

/** Options of mounts[] that are not passed on to a filesystem: those of mount(8) and of the runtime-spec. */
const mountOptions =
  'async atime bind dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable'.split(
    ' ',
  );

const hookNames = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;

const plain: Spec = {
  ociVersion: '1.3.0',
  root: { path: 'rootfs' },
  process: { args: ['-'], cwd: '/', user: { uid: 0, gid: 0 } },
  linux: { namespaces: [{ type: 'mount' }] },
};

/** The field is not among what the core refuses. */
function applies(changes: Partial<Spec>, path: string): boolean {
  return !unsupported({ ...plain, ...changes }).some((refused) => refused.path.startsWith(path));
}

function appliesToLinux(linux: NonNullable<Spec['linux']>, path: string): boolean {
  return applies({ linux: { ...plain.linux, ...linux } }, `linux.${path}`);
}

export function featuresDocument({ version, commit, libseccomp }: FeaturesInput): Record<string, unknown> {
  const option = (name: string) =>
    applies({ mounts: [{ destination: '/x', type: 'bind', source: '/x', options: [name] }] }, 'mounts');
  const notify = appliesToLinux({ seccomp: { defaultAction: 'SCMP_ACT_NOTIFY' } }, 'seccomp');
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.3.0',
    hooks: hookNames.filter((name) => applies({ hooks: { [name]: [{ path: '/x' }] } }, 'hooks')),
    mountOptions: mountOptions.filter(option),
    linux: {
      namespaces: namespaceTypes
        .filter(
          (type) =>
            type === 'mount' || appliesToLinux({ namespaces: [{ type: 'mount' }, { type }] }, 'namespaces'),
        )
        .toSorted(),
      capabilities: [...capabilityNames],
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: false, rdma: true },
      seccomp: {
        enabled: libseccomp !== undefined,
        actions: seccompActions.filter(
          (name) => name in actionCodes || (name === 'SCMP_ACT_NOTIFY' && notify),
        ),
        operators: Object.keys(operatorCodes),
        archs: [...seccompArchitectures],
        knownFlags: [...seccompFlags],
        supportedFlags: [...seccompFlags],
      },
      apparmor: { enabled: applies({ process: { ...plain.process, apparmorProfile: 'x' } }, 'process') },
      selinux: { enabled: applies({ process: { ...plain.process, selinuxLabel: 'x' } }, 'process') },
      intelRdt: { enabled: true, schemata: true, monitoring: true },
      memoryPolicy: { modes: Object.keys(memoryModes), flags: Object.keys(memoryFlags) },
      mountExtensions: { idmap: { enabled: option('idmap') } },
      netDevices: { enabled: true },
    },
    annotations: {
      'org.opencontainers.runc.checkpoint.enabled': 'false',
      'dev.wherry.version': version,
      'dev.wherry.commit': commit,
      ...(libseccomp !== undefined && { 'io.github.seccomp.libseccomp.version': libseccomp }),
    },
    potentiallyUnsafeConfigAnnotations: ['bundle', 'org.systemd.property.', 'org.criu.config'],
  };
}
