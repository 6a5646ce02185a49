/** What a create tape is made of. Everything the host had to be asked for is already in here. */
import type { CgroupHost } from '../../cgroup/hierarchy.ts';
import type { CgroupPlan } from '../../cgroup/plan.ts';
import type { Spec } from '../../oci/types.ts';
import type { ResctrlPlan } from '../resctrl.ts';
import type { StdioPlan } from '../stdio.ts';
import type { BundleFile, CallerContext, MountSpec, ProcessSettings, RootfsOverlay } from '../types.ts';
import type { NetDevicePlan } from './net-devices.ts';

export interface CreateInput {
  /** Names this play towards keel. */
  token: bigint;
  id: string;
  spec: Spec;
  /** Absolute. */
  bundle: string;
  /** Absolute path of the root filesystem. */
  rootfs: string;
  /** Mounted onto <bundle>/rootfs in the host's mount namespace. */
  rootfsMounts: readonly MountSpec[];
  /** The root is a copy-on-write view: overlay on a tmpfs that only the container's mount namespace has. */
  rootfsOverlay?: RootfsOverlay;
  stateDir: string;
  /** Folder of Wherry's own programs. */
  libexec: string;
  stdio: StdioPlan;
  cgroup: CgroupPlan;
  cgroups: CgroupHost;
  seccomp: { filter: Uint8Array; flags: number } | undefined;
  caller?: CallerContext;
  /** Devices of linux.netDevices, as they are on the host. */
  netDevices?: readonly NetDevicePlan[] | undefined;
  /** linux.intelRdt. */
  resctrl?: ResctrlPlan | undefined;
  /** Whoever plays is an ordinary user: maps, mounts and ids only through a user namespace of its own. */
  unprivileged?: boolean;
  /** The container's root is that user: what one may reach the other may. */
  rootIsUser?: boolean;
  /** What writes the maps of ids that whoever plays may not write; absent: it may. */
  idHelpers?: IdHelpers;
  /** Whoever plays is root of a user namespace only, which may make no device nodes: those of the host are bound. */
  bindDevices?: boolean;
  /** The path of the user namespace is another namespace's: the user namespace that owns it is joined. */
  joinOwner?: boolean;
  noPivotRoot?: boolean;
  noNewKeyring?: boolean;
  startAtOnce?: boolean;
  /** A program that the kernel refuses is status 126 or 127, as under docker, not runc's 255. */
  dockerStatus?: boolean;
  pidFile?: string;
  files?: readonly BundleFile[];
  settings?: ProcessSettings;
  /** Pid of the init whose scheduling cookie is taken over. */
  schedCoreWith?: number;
}

/** Paths of newuidmap(1) and newgidmap(1). */
export interface IdHelpers {
  uid?: string;
  gid?: string;
}

/** Descriptors that whoever spawns a player gives it (docs/internals.md, "The tape"). */
export const PlayerDescriptor = { TAPE: 3, REGISTRATION: 4, CONSOLE: 5, PRESERVED: 256 } as const;

/** A create's exit code, when the init ended before it was ready. */
export const INIT_FAILED = 1;
