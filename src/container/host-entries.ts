/** What is in a folder of the host that is to be shown entry by entry (compile/host-view.ts). */
import { readdir, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostEntry } from './types.ts';

/** Kernel filesystems, which config.json mounts for itself, and the host's running state. */
const empty = new Set(['/dev', '/proc', '/run', '/sys']);

/** Sockets, devices and what vanishes meanwhile are left out. */
export async function entriesOf(folder: string): Promise<HostEntry[]> {
  const found = await readdir(folder, { withFileTypes: true });
  const entries = await Promise.all(
    found.map(async (entry): Promise<HostEntry | undefined> => {
      const { name } = entry;
      const path = join(folder, name);
      try {
        if (entry.isSymbolicLink()) return { name, kind: 'link', mode: 0o777, link: await readlink(path) };
        if (!entry.isDirectory() && !entry.isFile()) return undefined;
        if (empty.has(path)) return { name, kind: 'empty', mode: 0o755 };
        const mode = (await stat(path)).mode & 0o1777;
        return { name, kind: entry.isFile() ? 'file' : 'folder', mode };
      } catch {
        return undefined;
      }
    }),
  );
  return entries.filter((entry) => entry !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
}
