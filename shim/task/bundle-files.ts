/**
 * The files that a shim leaves in containerd's bundle, so that Go's shim can clean up after us and we after it:
 * `runtime`, `options.json`, `address`, `init.pid`.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundleFile } from '../../src/container/types.ts';
import type { Options } from '../gen/containerd/runc/v1/oci.ts';
import { optionsJson } from './options.ts';

/** What the create tape writes into the bundle. An `address` that `start` has written stays. */
export function bundleFiles(bundle: string, options: Options, address: string): BundleFile[] {
  const file = (name: string, text: string): BundleFile => ({ path: join(bundle, name), text, mode: 0o600 });
  const files = [file('runtime', options.binaryName), file('options.json', optionsJson(options))];
  return address === '' ? files : [...files, { ...file('address', address), keep: true }];
}

/** Decimal, no newline; written by the create tape. */
export function initPidPath(bundle: string): string {
  return join(bundle, 'init.pid');
}

/** 0 where the file is missing or holds no number. */
export async function readInitPid(bundle: string): Promise<number> {
  const text = await readFile(initPidPath(bundle), 'utf8').catch(() => '');
  return /^\d{1,10}$/.test(text.trim()) ? Number(text) : 0;
}

/** Where Go's shim lets runc keep its state, without the namespace. */
const RUNC_ROOT = '/run/containerd/runc';

/** What options.json names as runc's root, else containerd's own. */
export async function readRoot(bundle: string): Promise<string> {
  const text = await readFile(join(bundle, 'options.json'), 'utf8').catch(() => '{}');
  try {
    const { root } = JSON.parse(text) as { root?: unknown };
    return typeof root === 'string' && root.startsWith('/') ? root : RUNC_ROOT;
  } catch {
    return RUNC_ROOT;
  }
}
