/** The private bundle of one `launch`: <run>/launch/<name>/. Its root filesystem, where it is a view of the host's, is made inside the container. */
import { randomBytes } from 'node:crypto';
import { mkdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { logFiles, streamFiles } from './launched/console.ts';
import { NETWORK_FILES } from './launched/network.ts';

/** Folder of the run folder in which all of them lie. */
export const LAUNCH = 'launch';

export interface LaunchFolder {
  /** The bundle, absolute. */
  path: string;
  /** An empty <path>/rootfs is there, the place of the view. */
  view: boolean;
}

/** @param view with an empty rootfs folder, on which the container's own mount namespace mounts its root filesystem */
export async function makeLaunchFolder(runDir: string, view: boolean): Promise<LaunchFolder> {
  const parent = join(runDir, LAUNCH);
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const path = join(parent, randomBytes(8).toString('hex'));
  await mkdir(path, { mode: 0o700 });
  if (view) await mkdir(join(path, 'rootfs'), { mode: 0o755 });
  return { path, view };
}

/** Only ever removes files of known names and empty folders: whatever went wrong, nothing of the host's is below them. */
export async function removeLaunchFolder(path: string): Promise<void> {
  for (const name of [...streamFiles, ...logFiles, ...NETWORK_FILES])
    await unlink(join(path, name)).catch(() => {});
  await rmdir(join(path, 'rootfs')).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  await rmdir(path);
}
