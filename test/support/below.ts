/** What lies in a folder and below, also while others take parts of it away. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Paths, each beginning with the folder's. Node's own recursive reading fails when a folder goes between two of its looks. */
export function below(folder: string): string[] {
  let entries: { name: string; isDirectory(): boolean }[];
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? [path, ...below(path)] : [path];
  });
}
