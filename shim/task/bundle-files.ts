/**
 * The files that a shim leaves in containerd's bundle, so that Go's shim can clean up after us and we after it:
 * `runtime`, `options.json`, `address`, `init.pid`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Options } from '../gen/containerd/runc/v1/oci.ts';
import { optionsJson } from './options.ts';

/** Before create. `address` is kept where `start` has written it. */
export async function writeBundleFiles(bundle: string, options: Options, address: string): Promise<void> {
  await Promise.all([
    writeFile(join(bundle, 'runtime'), options.binaryName, { mode: 0o600 }),
    writeFile(join(bundle, 'options.json'), optionsJson(options), { mode: 0o600 }),
    address === '' ? undefined : writeNew(join(bundle, 'address'), address),
  ]);
}

/** Decimal, no newline. */
export async function writeInitPid(bundle: string, pid: number): Promise<void> {
  await writeFile(join(bundle, 'init.pid'), String(pid), { mode: 0o644 });
}

/** 0 where the file is missing or holds no number. */
export async function readInitPid(bundle: string): Promise<number> {
  const text = await readFile(join(bundle, 'init.pid'), 'utf8').catch(() => '');
  return /^\d{1,10}$/.test(text.trim()) ? Number(text) : 0;
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
