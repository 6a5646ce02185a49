/** What lies below a cgroup: a container may make cgroups of its own, and its pids and its removal include them. */
import { readdirSync } from 'node:fs';

/** All folders below, then the folder itself: the order in which they can be removed. [] when it is gone. */
export function cgroupTree(directory: string): string[] {
  const folders: string[] = [];
  const visit = (folder: string) => {
    let entries: ReturnType<typeof list>;
    try {
      entries = list(folder);
    } catch {
      // Gone between two looks: nothing is below it any more.
      return;
    }
    for (const entry of entries) if (entry.isDirectory()) visit(`${folder}/${entry.name}`);
    folders.push(folder);
  };
  visit(directory);
  return folders;
}

/** Names of the folders in a folder; [] when it is gone. */
export function foldersIn(folder: string): string[] {
  try {
    return list(folder).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch {
    return [];
  }
}

/** The same for all of a plan's `remove`. */
export function removalOrder(directories: readonly string[]): string[] {
  return directories.flatMap(cgroupTree);
}

const list = (folder: string) => readdirSync(folder, { withFileTypes: true });
