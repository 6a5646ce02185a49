/** Bundles for tests of the command line and of the RPC interface: `runc spec`'s config.json over a busybox root. */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { peers } from './debs.ts';
import { writeRootfs } from './image.ts';
import { cache } from './paths.ts';
import { must } from './run.ts';

/** The parts of config.json that tests change; everything else is passed through. */
export interface SpecConfig {
  ociVersion: string;
  hostname?: string;
  process: { terminal?: boolean; args: string[]; env: string[]; cwd: string; [field: string]: unknown };
  root: { path: string; readonly?: boolean };
  mounts: { destination: string; type?: string; source?: string; options?: string[] }[];
  linux: {
    namespaces: { type: string; path?: string }[];
    resources?: Record<string, unknown>;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

/**
 * Makes a bundle in a new sub-folder of `parent`: rootfs of busybox and the config.json of runc 1.1.5's `runc spec` with
 * terminal false and the given arguments, then changed by `edit`. Returns its path.
 */
export async function makeBundle(
  parent: string,
  name: string,
  args: readonly string[],
  edit: (config: SpecConfig) => void = () => {},
): Promise<string> {
  const bundle = join(parent, name);
  mkdirSync(bundle, { recursive: true });
  cpSync(await rootfsTemplate(), join(bundle, 'rootfs'), { recursive: true, verbatimSymlinks: true });
  await must((await peers()).runc, ['spec'], { cwd: bundle });
  editConfig(bundle, (config) => {
    config.process.terminal = false;
    config.process.args = [...args];
    edit(config);
  });
  return bundle;
}

/** Changes a bundle's config.json in place. */
export function editConfig(bundle: string, edit: (config: SpecConfig) => void): void {
  const path = join(bundle, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as SpecConfig;
  edit(config);
  writeFileSync(path, JSON.stringify(config, null, 2));
}

/** One root filesystem, made once; bundles get copies of it. */
export async function rootfsTemplate(): Promise<string> {
  const path = join(cache, 'rootfs-1');
  if (existsSync(path)) return path;
  const work = `${path}.${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  await writeRootfs((await peers()).busybox, work);
  try {
    renameSync(work, path);
  } catch (error) {
    // Another test file made it at the same time.
    rmSync(work, { recursive: true, force: true });
    if (!existsSync(path)) throw error;
  }
  return path;
}
