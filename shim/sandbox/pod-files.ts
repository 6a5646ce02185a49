/**
 * Files of a pod that its containers mount: hosts, resolv.conf, hostname, and the folder of /dev/shm. Where the shim makes the sandbox
 * containerd's CRI plugin names them in every container's configuration and makes none of them.
 */
import { chmod, copyFile, mkdir, realpath, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { PodSandboxConfig } from '../gen/runtime/v1/pod.ts';

const CONTROLLER = 'io.containerd.sandbox.controller.v1.shim';
const CRI = 'io.containerd.grpc.v1.cri';

export interface PodFolders {
  /** Below containerd's root. */
  kept: string;
  /** Below its state. */
  volatile: string;
}

/** undefined: the bundle is not of CRI's making. */
export async function podFolders(bundle: string, id: string): Promise<PodFolders | undefined> {
  const plugin = dirname(dirname(bundle));
  if (basename(plugin) !== CONTROLLER || basename(bundle) !== id) return undefined;
  const work = await realpath(join(bundle, 'work')).catch(() => undefined);
  if (work === undefined) return undefined;
  const below = (base: string): string => join(base, CRI, 'sandboxes', id);
  return { kept: below(dirname(dirname(dirname(work)))), volatile: below(dirname(plugin)) };
}

export async function writePodFiles({ kept, volatile }: PodFolders, pod: PodSandboxConfig): Promise<void> {
  await mkdir(kept, { recursive: true, mode: 0o755 });
  const shm = join(volatile, 'shm');
  await mkdir(volatile, { recursive: true, mode: 0o755 });
  await mkdir(shm, { recursive: true });
  // mkdir(2) masks the mode.
  await chmod(shm, 0o1777);
  await copyFile('/etc/hosts', join(kept, 'hosts')).catch(() => writeFile(join(kept, 'hosts'), ''));
  await writeFile(join(kept, 'hostname'), `${pod.hostname}\n`);
  const resolv = join(kept, 'resolv.conf');
  const text = resolvConf(pod);
  if (text === '') await copyFile('/etc/resolv.conf', resolv).catch(() => writeFile(resolv, ''));
  else await writeFile(resolv, text);
}

export async function removePodFiles({ kept, volatile }: PodFolders): Promise<void> {
  await rm(kept, { recursive: true, force: true });
  await rm(volatile, { recursive: true, force: true });
}

/** '' where the pod has no wishes: then it is the host's (resolv.conf(5)). */
function resolvConf({ dnsConfig }: PodSandboxConfig): string {
  if (dnsConfig === undefined) return '';
  const { searches, servers, options } = dnsConfig;
  const lines = [
    ...(searches.length > 0 ? [`search ${searches.join(' ')}`] : []),
    ...servers.map((server) => `nameserver ${server}`),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
  ];
  return lines.map((line) => `${line}\n`).join('');
}
