/** What tests read back from the kernel about mounts and cgroups; plain files, no code of the product. */
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

/** Mount points of this process, in mount order. */
export function mounts(pid: number | 'self' = 'self'): string[] {
  const lines = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n');
  return lines.map((line) =>
    (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, octal: string) =>
      String.fromCharCode(parseInt(octal, 8)),
    ),
  );
}

/** Mount points of every cgroup hierarchy, v1 and v2. */
export function cgroupRoots(): string[] {
  const roots: string[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')) {
    const [before, after] = line.split(' - ');
    if (after?.startsWith('cgroup')) roots.push(before?.split(' ')[4] ?? '');
  }
  return roots;
}

/** A file of a process's cgroup, found by controller: its v1 hierarchy or v2's. Undefined: no such file. */
export function cgroupFile(pid: number, controller: string, name: string): string | undefined {
  for (const line of readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n')) {
    const [, controllers = '', ...path] = line.split(':');
    const v1 = controllers.split(',').includes(controller);
    if (!v1 && controllers !== '') continue;
    for (const root of cgroupRoots()) {
      if (v1 && !root.split('/').pop()?.split(',').includes(controller)) continue;
      const file = join(root, path.join(':'), name);
      if (existsSync(file)) return readFileSync(file, 'utf8').trim();
    }
  }
  return undefined;
}

/** Paths, relative to each hierarchy's root, of all cgroups below; slow on a machine with thousands. */
export function allCgroups(): string[] {
  const found: string[] = [];
  const walk = (path: string): void => {
    let names: string[] = [];
    try {
      names = readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? [entry.name] : [],
      );
    } catch {
      return; // removed while we looked
    }
    for (const name of names) {
      found.push(join(path, name));
      walk(join(path, name));
    }
  };
  for (const root of cgroupRoots()) walk(root);
  return found;
}

/** Removes an empty cgroup of ours in every hierarchy; one that still has children or processes stays, for the leak check. */
export function removeCgroup(path: string): void {
  for (const root of cgroupRoots()) {
    try {
      rmdirSync(join(root, path));
    } catch {
      // Not there, or not empty.
    }
  }
}
