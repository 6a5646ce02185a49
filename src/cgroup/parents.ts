/** The folder that holds the cgroups of containers that name none, with those of their namespaces (`scope-namespace`) below. */
import { rmdirSync } from 'node:fs';
import type { CgroupHost } from './hierarchy.ts';
import { foldersIn } from './tree.ts';

/** Removes them, from the hierarchies' root, where they are empty. */
export function removeParents({ hierarchies, unified }: CgroupHost, parent: string): void {
  for (const mount of [...hierarchies, unified].flatMap((found) => found?.mountPoint ?? [])) {
    const path = `${mount}${parent}`;
    // Only the folders of scopes: another daemon may just be making a container's own.
    const scopes = foldersIn(path).filter((name) => /^(local|[0-9a-f]{16})-/.test(name));
    for (const folder of [...scopes.map((name) => `${path}/${name}`), path]) {
      try {
        rmdirSync(folder);
      } catch {
        // Never made, or still in use by somebody.
      }
    }
  }
}
