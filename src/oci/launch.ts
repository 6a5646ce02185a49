import {
  cgroupMount,
  DEFAULT_PATH,
  defaultMaskedPaths,
  defaultMounts,
  defaultReadonlyPaths,
  SPEC_VERSION,
} from './defaults.ts';
import { dockerSeccomp, type Machine } from './docker-profile.ts';
import type { Capabilities, LinuxResources, Process, Spec, User } from './types.ts';

/** The capabilities that docker leaves a container. */
export const dockerCapabilities: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
];

/** CFS period in µs that a number of CPUs is a multiple of. */
const CPU_PERIOD = 100_000;
/** gethostname(2): 64 bytes with the end. */
const MAX_HOSTNAME = 63;

export interface LaunchOptions {
  /** Becomes the host name. */
  id: string;
  args: string[];
  machine: Machine;
  /** Root filesystem, absolute or relative to the bundle; default `rootfs`. */
  rootfs?: string;
  readonly?: boolean;
  terminal?: boolean;
  consoleSize?: { width: number; height: number };
  /** `NAME=value`; a later one wins, also over the defaults. */
  env?: string[];
  cwd?: string;
  /** The bounding set, and root's other ones; default: docker's. */
  capabilities?: readonly string[];
  user?: User;
  hostname?: string;
  /** Bytes. */
  memory?: number;
  /** Processors, 0.01 or more. */
  cpus?: number;
  /** Largest number of tasks. */
  pids?: number;
  cgroupsPath?: string;
  annotations?: Record<string, string>;
}

function environment(options: LaunchOptions, hostname: string): string[] {
  const base = [DEFAULT_PATH, `HOSTNAME=${hostname}`, ...(options.terminal ? ['TERM=xterm'] : [])];
  const byName = new Map<string, string>();
  for (const entry of [...base, ...(options.env ?? [])]) byName.set(entry.split('=', 1)[0] ?? '', entry);
  return [...byName.values()];
}

function limits({ memory, cpus, pids }: LaunchOptions): LinuxResources {
  const resources: LinuxResources = { devices: [{ allow: false, access: 'rwm' }] };
  if (memory !== undefined) resources.memory = { limit: memory };
  if (cpus !== undefined) resources.cpu = { quota: Math.round(cpus * CPU_PERIOD), period: CPU_PERIOD };
  if (pids !== undefined) resources.pids = { limit: pids };
  return resources;
}

/**
 * The configuration that `wherry launch` runs: new namespaces, docker's capabilities and system call rules,
 * no_new_privs. Not checked here: the command line gives it to checkConfig as it does every other one.
 */
export function launchSpec(options: LaunchOptions): Spec {
  const hostname = options.hostname ?? options.id.slice(0, MAX_HOSTNAME);
  const user = options.user ?? { uid: 0, gid: 0 };
  const bounding = [...(options.capabilities ?? dockerCapabilities)] as NonNullable<Capabilities['bounding']>;
  const process: Process = {
    terminal: options.terminal ?? false,
    user,
    args: options.args,
    env: environment(options, hostname),
    cwd: options.cwd ?? '/',
    // A user who is not root starts with none, as after execve(2) of any program without file capabilities.
    capabilities:
      user.uid === 0 ? { bounding, effective: [...bounding], permitted: [...bounding] } : { bounding },
    noNewPrivileges: true,
  };
  if (options.consoleSize !== undefined) process.consoleSize = options.consoleSize;
  const spec: Spec = {
    ociVersion: SPEC_VERSION,
    process,
    root: { path: options.rootfs ?? 'rootfs', readonly: options.readonly ?? false },
    hostname,
    mounts: [...defaultMounts(), cgroupMount()],
    linux: {
      resources: limits(options),
      namespaces: (['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup'] as const).map((type) => ({ type })),
      maskedPaths: [...defaultMaskedPaths, '/proc/interrupts', '/sys/devices/virtual/powercap'],
      readonlyPaths: [...defaultReadonlyPaths],
      seccomp: dockerSeccomp(bounding, options.machine),
    },
  };
  if (options.cgroupsPath !== undefined) spec.linux!.cgroupsPath = options.cgroupsPath;
  if (options.annotations !== undefined) spec.annotations = options.annotations;
  return spec;
}
