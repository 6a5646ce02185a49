/** A small file that is there as a whole, the old text or the new one (rename(2)). */
import { renameSync, rmSync, writeFileSync } from 'node:fs';

/** Of our own folders only, which answer at once. What fails leaves the old file, and nothing beside it. */
export function replaceFileSync(path: string, text: string): void {
  const fresh = `${path}.new`;
  try {
    writeFileSync(fresh, text, { mode: 0o600 });
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}
