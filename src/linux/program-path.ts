/** Programs as a shell finds them: the first of PATH's folders that has an executable file of that name. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Where distributions put programs. */
export const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `path` is like PATH; what is no absolute folder in it is passed over. Absolute; undefined: there is none. */
export async function findProgram(name: string, path: string): Promise<string | undefined> {
  for (const folder of path.split(':')) {
    const file = join(folder, name);
    if (folder.startsWith('/') && (await isProgram(file))) return file;
  }
  return undefined;
}

/** A file that this process may execute. */
export async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
