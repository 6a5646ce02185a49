import type { LinuxIdMapping, Mount, NamespaceType, Spec } from './types.ts';

/** The specification that Wherry follows. */
export const SPEC_VERSION = '1.3.0';

export const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The mounts that every engine writes; `/sys/fs/cgroup` is left to the caller. A new list each time. */
export const defaultMounts = (): Mount[] => [
  { destination: '/proc', type: 'proc', source: 'proc' },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
  {
    destination: '/dev/mqueue',
    type: 'mqueue',
    source: 'mqueue',
    options: ['nosuid', 'noexec', 'nodev'],
  },
  {
    destination: '/sys',
    type: 'sysfs',
    source: 'sysfs',
    options: ['nosuid', 'noexec', 'nodev', 'ro'],
  },
];

export const cgroupMount = (): Mount => ({
  destination: '/sys/fs/cgroup',
  type: 'cgroup',
  source: 'cgroup',
  options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'],
});

export const defaultMaskedPaths: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/proc/scsi',
];

export const defaultReadonlyPaths: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/** Without a user namespace of many ids: the caller alone, and nothing that only root may mount. */
function forRootless(spec: Spec, ids: { uid: number; gid: number }): void {
  const self = (hostID: number): LinuxIdMapping[] => [{ containerID: 0, hostID, size: 1 }];
  const linux = spec.linux!;
  delete linux.resources;
  linux.uidMappings = self(ids.uid);
  linux.gidMappings = self(ids.gid);
  linux.namespaces = (linux.namespaces ?? []).filter(({ type }) => type !== 'network');
  linux.namespaces.push({ type: 'user' });
  spec.mounts = spec.mounts?.map((mount) => {
    if (mount.destination === '/sys') {
      return {
        destination: '/sys',
        type: 'none',
        source: '/sys',
        options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'],
      };
    }
    const options = mount.options?.filter((option) => !/^[ug]id=/.test(option));
    return options === undefined ? mount : { ...mount, options };
  });
}

export interface DefaultSpecOptions {
  /** Ids of the caller that the container's root is mapped to; absent: not rootless. */
  rootless?: { uid: number; gid: number };
  /** On a pure cgroup v2 host the container gets a cgroup namespace, as runc has it. */
  cgroupVersion?: 1 | 2;
}

/**
 * What `wherry spec` writes: the example of runc 1.1 but for `ociVersion`, `hostname` and the ambient set, which the
 * kernel grants only to capabilities that are inheritable, and these are not (runc has dropped it since, too).
 */
export function defaultSpec(options: DefaultSpecOptions = {}): Spec {
  const capabilities = (): string[] => ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
  const namespaces: NamespaceType[] = ['pid', 'network', 'ipc', 'uts', 'mount'];
  if (options.cgroupVersion === 2) namespaces.push('cgroup');
  const spec: Spec = {
    ociVersion: SPEC_VERSION,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: [DEFAULT_PATH, 'TERM=xterm'],
      cwd: '/',
      capabilities: { bounding: capabilities(), effective: capabilities(), permitted: capabilities() },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'wherry',
    mounts: [...defaultMounts(), cgroupMount()],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: namespaces.map((type) => ({ type })),
      maskedPaths: [...defaultMaskedPaths],
      readonlyPaths: [...defaultReadonlyPaths],
    },
  };
  if (options.rootless !== undefined) forRootless(spec, options.rootless);
  return spec;
}
