/** A pod's sandbox as a container: one process that sleeps and holds the namespaces which the pod's containers join. Pure. */
import { posix } from 'node:path';
import { WherryError } from '../../src/errors.ts';
import type { Spec } from '../../src/oci/types.ts';
import { NamespaceMode, PodSandboxConfig } from '../gen/runtime/v1/pod.ts';
import { typeName } from '../task/options.ts';
import { planUser, type UserPlan } from './user.ts';

export interface SandboxRequest {
  id: string;
  options: { typeUrl: string; value: Uint8Array } | undefined;
  /** '' for the host's network. */
  netnsPath: string;
  /** Folder of the bundle. */
  root: string;
  /** The sleeping program on the host. */
  pause: string;
}

export interface SandboxPlan {
  config: Spec;
  pod: PodSandboxConfig;
  systemdCgroup: boolean;
  /** undefined: the host's. */
  user: UserPlan | undefined;
}

/** invalid-argument for options of another type, and for ids that are no sandbox's; both name the field. */
export function planSandbox(request: SandboxRequest): SandboxPlan {
  const pod = parsePod(request.options);
  const { id, netnsPath } = request;
  const modes = pod.linux?.securityContext?.namespaceOptions;
  const ofNode = (mode: NamespaceMode | undefined): boolean => mode === NamespaceMode.NODE;
  const hostNetwork = ofNode(modes?.network);
  const user = planUser(modes?.usernsOptions, hostNetwork ? '' : netnsPath);
  const parent = pod.linux?.cgroupParent ?? '';
  const systemdCgroup = parent.endsWith('.slice');
  const config: Spec = {
    ociVersion: '1.1.0',
    root: { path: request.root, readonly: true },
    // As with containerd's own sandboxes the name goes with the network.
    ...(!hostNetwork && pod.hostname !== '' && { hostname: pod.hostname }),
    process: {
      args: ['/pause'],
      cwd: '/',
      env: ['PATH=/'],
      user: { uid: 0, gid: 0 },
      noNewPrivileges: true,
    },
    mounts: [
      {
        destination: '/pause',
        type: 'bind',
        source: request.pause,
        options: ['bind', 'ro', 'nosuid', 'nodev'],
      },
    ],
    annotations: {
      'io.kubernetes.cri.container-type': 'sandbox',
      'io.kubernetes.cri.sandbox-id': id,
    },
    linux: {
      namespaces: [
        ...(user === undefined ? [] : [user.namespace]),
        { type: 'mount' },
        ...(hostNetwork
          ? []
          : [
              { type: 'uts' as const },
              { type: 'network' as const, ...(netnsPath !== '' && { path: netnsPath }) },
            ]),
        ...(ofNode(modes?.ipc) ? [] : [{ type: 'ipc' as const }]),
        ...(ofNode(modes?.pid) ? [] : [{ type: 'pid' as const }]),
      ],
      ...user?.mappings,
      resources: { cpu: { shares: 2 } },
      ...(parent !== '' && {
        cgroupsPath: systemdCgroup
          ? `${posix.basename(parent)}:cri-containerd:${id}`
          : posix.join('/', parent, id),
      }),
      ...(Object.keys(pod.linux?.sysctls ?? {}).length > 0 && { sysctl: pod.linux?.sysctls }),
    },
  };
  return { config, pod, systemdCgroup, user };
}

/** Absent options are a pod without wishes. */
function parsePod(options: SandboxRequest['options']): PodSandboxConfig {
  if (options === undefined || (options.typeUrl === '' && options.value.length === 0))
    return PodSandboxConfig.fromPartial({});
  const name = typeName(options.typeUrl);
  if (name !== 'runtime.v1.PodSandboxConfig') {
    throw new WherryError('invalid-argument', `options: the type "${options.typeUrl}" is not known`, {
      path: 'options',
      hint: 'send runtime.v1.PodSandboxConfig',
    });
  }
  try {
    return PodSandboxConfig.decode(options.value);
  } catch (cause) {
    throw new WherryError('invalid-argument', `options: cannot be decoded as ${name}`, {
      path: 'options',
      cause,
    });
  }
}
