/**
 * HOME of a program that was given none: the sixth field of its user's line in the image's /etc/passwd (passwd(5)), else "/", as runc does.
 * It is looked up before the tape is made, as a tape cannot search a text. The root filesystem may not be mounted yet: then the
 * file is taken from the layer that will show it.
 */
import { join } from 'node:path';
import { readInRoot } from '../linux/root-file.ts';
import { isBindMount } from '../oci/mounts.ts';
import type { Spec } from '../oci/types.ts';
import { plainPath, splitLayers } from './compile/overlay-text.ts';
import type { MountSpec } from './types.ts';

const PASSWD_MAX = 256 * 1024;
const DEADLINE_MS = 2000;

/** The specification with HOME in process.env; the same one where it is there already. */
export async function withHome(spec: Spec, rootfs: string, mounts: readonly MountSpec[]): Promise<Spec> {
  const env = spec.process.env ?? [];
  if (env.some((entry) => entry.startsWith('HOME=') && entry !== 'HOME=')) return spec;
  const home = await lookUp(layersOf(rootfs, mounts), spec.process.user.uid);
  const others = env.filter((entry) => !entry.startsWith('HOME='));
  return { ...spec, process: { ...spec.process, env: [...others, `HOME=${home}`] } };
}

async function lookUp(layers: readonly string[], uid: number): Promise<string> {
  for (const [index, layer] of layers.entries()) {
    // A new container's uppermost layer is empty; the lowest has a passwd as a rule.
    const rare = index < layers.length - 1;
    const passwd = await readInRoot(layer, 'etc/passwd', PASSWD_MAX, DEADLINE_MS, { rare });
    if (passwd !== undefined) return homeOf(passwd.toString('utf8'), uid) ?? '/';
  }
  return '/';
}

/** Exported for tests: the home folder of a user id in a passwd file. */
export function homeOf(passwd: string, uid: number): string | undefined {
  for (const line of passwd.split('\n')) {
    const fields = line.split(':');
    if (fields[2] === String(uid) && fields[5] !== undefined && fields[5] !== '') return fields[5];
  }
  return undefined;
}

/** Where a file of the root filesystem may lie, uppermost first. */
export function layersOf(rootfs: string, mounts: readonly MountSpec[]): string[] {
  const root = mounts.findLast((mount) => mount.target === '' || mount.target === '/');
  if (root === undefined) return [rootfs];
  if (root.type === 'overlay') {
    const option = (name: string) =>
      root.options.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
    const lowers = splitLayers(option('lowerdir') ?? '').filter((layer) => layer !== '');
    return [option('upperdir') ?? [], lowers.map(plainPath)].flat();
  }
  if (isBindMount(root)) return [root.source];
  // A filesystem on a device: nothing can be read before it is mounted.
  return [join(rootfs)];
}
