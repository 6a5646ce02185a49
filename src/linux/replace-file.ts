/** A small file that is there as a whole, the old text or the new one (rename(2)). */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { boundary } from '../fault.ts';

/** Of our own folders only, which answer at once. What fails leaves the old file, and nothing beside it. */
export function replaceFileSync(path: string, text: string): void {
  const fresh = `${path}.new`;
  const name = basename(path);
  try {
    boundary('file', name);
    writeFileSync(fresh, text, { mode: 0o600 });
    boundary('file fresh', name);
    renameSync(fresh, path);
    boundary('file replaced', name);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}
