/** The private bundle of one `launch`: <run>/launch/<name>/, and the layers of the view of the host's root filesystem. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, rm, rmdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountSpec } from '../container/types.ts';

export interface LaunchFolder {
  /** The bundle, absolute. */
  path: string;
  /** The overlay on <path>/rootfs; empty with a root filesystem of the caller's. */
  rootfsMounts: MountSpec[];
  /** Folder of the upper layer; undefined without one. */
  layers: string | undefined;
}

/** statfs(2) */
const TMPFS_MAGIC = 0x01021994;

/** @param view with an overlay of which the host's root filesystem is the lower layer */
export async function makeLaunchFolder(runDir: string, view: boolean): Promise<LaunchFolder> {
  const name = randomBytes(8).toString('hex');
  const parent = join(runDir, 'launch');
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const path = join(parent, name);
  await mkdir(path, { mode: 0o700 });
  if (!view) return { path, rootfsMounts: [], layers: undefined };
  let layers: string | undefined;
  try {
    await mkdir(join(path, 'rootfs'));
    layers = await makeLayers(path, name);
    return { path, rootfsMounts: [overlay(layers)], layers };
  } catch (error) {
    await removeLaunchFolder({ path, rootfsMounts: [], layers });
    throw error;
  }
}

/** In memory, so that nothing that the command writes reaches a disk. */
async function makeLayers(bundle: string, name: string): Promise<string> {
  const inMemory = (await statfs(bundle)).type === TMPFS_MAGIC;
  const layers = inMemory ? join(bundle, 'layers') : join('/dev/shm', `wherry-${name}`);
  await mkdir(layers, { mode: 0o700 });
  const upper = join(layers, 'upper');
  await mkdir(upper);
  await mkdir(join(layers, 'work'));
  // The mode of "/" inside: wherryd's umask has no say.
  await chmod(upper, 0o755);
  return layers;
}

function overlay(layers: string): MountSpec {
  const options = ['lowerdir=/', `upperdir=${join(layers, 'upper')}`, `workdir=${join(layers, 'work')}`];
  return { type: 'overlay', source: 'overlay', target: '', options };
}

/** After the overlay is gone: a root filesystem that is still mounted makes this fail, and nothing below it is touched. */
export async function removeLaunchFolder({ path, rootfsMounts, layers }: LaunchFolder): Promise<void> {
  if (rootfsMounts.length > 0) await rmdir(join(path, 'rootfs'));
  if (layers !== undefined) await rm(layers, { recursive: true, force: true });
  await rm(path, { recursive: true, force: true });
}
