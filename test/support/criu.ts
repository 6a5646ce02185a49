/** criu of Debian forky (older ones do not know the vDSO of new kernels), with its own loader and libraries. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { unpackedTree } from './debs.ts';

/** Path of a script that is criu. */
export async function criuProgram(): Promise<string> {
  const root = await unpackedTree('forky', ['criu']);
  const script = join(root, 'wherry-criu', 'criu');
  const arm = process.arch === 'arm64';
  const triplet = arm ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const loader = join(root, 'usr/lib', triplet, arm ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2');
  const libraries = join(root, 'usr/lib', triplet);
  const text = `#!/bin/sh\nexec '${loader}' --library-path '${libraries}' '${root}/usr/sbin/criu' "$@"\n`;
  // The repository may have been moved.
  if (existsSync(script) && readFileSync(script, 'utf8') === text) return script;
  mkdirSync(join(root, 'wherry-criu'), { recursive: true });
  const draft = `${script}.${process.pid}`;
  writeFileSync(draft, text);
  chmodSync(draft, 0o755);
  renameSync(draft, script);
  return script;
}

/** The number that a symbolic link names; 0: there is none. */
export function linkedNumber(path: string): number {
  try {
    return Number(readlinkSync(path));
  } catch {
    return 0;
  }
}
