/** The host's side of a case: bundles, folders, mounts, namespaces and interfaces, all of them removed again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { peers } from '../../support/debs.ts';
import { cache } from '../../support/paths.ts';
import { must, stop } from '../../support/run.ts';
import type { HostStep } from './cases.ts';

/** The probe. */
const probe = (): Promise<string> => compileProgram(join(import.meta.dirname, 'probe.c'));

/** Cases run side by side and may all be the first. */
let attempts = 0;

/** A static program of one C file, compiled once for each version of it. */
export async function compileProgram(source: string): Promise<string> {
  const name = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const path = join(cache, `${basename(source, '.c')}-${name}`);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const work = `${path}.${process.pid}-${attempts++}`;
  await must('cc', ['-std=c17', '-Wall', '-Wextra', '-Werror', '-static', '-O1', '-o', work, source], {
    timeout: 120_000,
  });
  renameSync(work, path);
  return path;
}

const applets = [
  'cat',
  'chmod',
  'echo',
  'false',
  'grep',
  'head',
  'id',
  'ip',
  'kill',
  'ls',
  'mkdir',
  'mount',
  'mv',
  'rm',
  'sed',
  'sh',
  'sleep',
  'sort',
  'stat',
  'test',
  'touch',
  'true',
  'tty',
  'umount',
  'wc',
];
const folders: readonly (readonly [string, number])[] = [
  ['', 0o755],
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['proc', 0o555],
  ['root', 0o700],
  ['sys', 0o555],
  ['tmp', 0o1777],
];

/** A small root filesystem: probe, busybox, passwd. The programs are links to one copy in `store`. */
export async function writeSmallRoot(folder: string, store: string): Promise<void> {
  const [program, { busybox }] = await Promise.all([probe(), peers()]);
  for (const [name, mode] of folders) {
    mkdirSync(join(folder, name), { recursive: true });
    chmodSync(join(folder, name), mode);
  }
  for (const [name, from] of [
    ['busybox', busybox],
    ['probe', program],
  ] as const) {
    const copy = join(store, name);
    if (!existsSync(copy)) {
      writeFileSync(copy, readFileSync(from));
      chmodSync(copy, 0o755);
    }
    linkSync(copy, join(folder, name === 'probe' ? 'probe' : 'bin/busybox'));
  }
  for (const name of applets) symlinkSync('busybox', join(folder, 'bin', name));
  writeFileSync(
    join(folder, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n',
  );
  writeFileSync(join(folder, 'etc/group'), 'root:x:0:\nuser:x:1000:\n');
}

/** Everything but the programs belongs to this id afterwards. */
export function giveTo(path: string, owner: number): void {
  chownSync(path, owner, owner);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inside = join(path, entry.name);
    if (entry.isDirectory()) giveTo(inside, owner);
    else if (entry.isFile() && entry.name !== 'busybox' && entry.name !== 'probe')
      chownSync(inside, owner, owner);
  }
}

let links = 0;

/** What one case made on the host. */
export class HostSide implements AsyncDisposable {
  readonly values: Record<string, string> = {};
  readonly #bundle: string;
  readonly #mounted: string[] = [];
  readonly #holders: ChildProcess[] = [];
  readonly #links: string[] = [];

  constructor(bundle: string) {
    this.#bundle = bundle;
  }

  async make(step: HostStep): Promise<void> {
    if ('folder' in step) {
      const path = join(this.#bundle, step.folder);
      mkdirSync(path, { recursive: true });
      if (step.owner !== undefined) chownSync(path, step.owner, step.owner);
      chmodSync(path, Number.parseInt(step.mode ?? '755', 8));
    } else if ('file' in step) {
      const path = join(this.#bundle, step.file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, step.content ?? '');
      // A change of owner takes the set-id bits away.
      if (step.owner !== undefined) chownSync(path, step.owner, step.owner);
      chmodSync(path, Number.parseInt(step.mode ?? '644', 8));
    } else if ('link' in step) {
      const path = join(this.#bundle, step.link);
      rmSync(path, { recursive: true, force: true });
      symlinkSync(step.to, path);
    } else if ('tmpfs' in step) {
      const path = join(this.#bundle, step.tmpfs);
      mkdirSync(path, { recursive: true });
      await must('mount', ['-t', 'tmpfs', ...(step.options ? ['-o', step.options] : []), 'tmpfs', path]);
      if (step.shared === true) await must('mount', ['--make-shared', path]);
      this.#mounted.unshift(path);
    } else if ('chown' in step) {
      giveTo(join(this.#bundle, step.chown), step.owner);
    } else if ('namespaces' in step) {
      await this.#hold(step.namespaces, step.flags);
    } else {
      const name = `wt${process.pid.toString(36)}${(links++).toString(36)}`;
      // Its other end only keeps it company: not every kernel has a type that stands alone.
      await must('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      this.#links.push(name);
      for (const address of step.addresses ?? []) await must('ip', ['addr', 'add', address, 'dev', name]);
      this.values[`link.${step.device}`] = name;
    }
  }

  /** `unshare FLAGS` execs a program that says when it is there. */
  async #hold(name: string, flags: readonly string[]): Promise<void> {
    // Without --kill-child a forked process would live on when its starter is killed.
    const kept = flags.includes('--fork') ? [...flags, '--kill-child'] : flags;
    const child = spawn('unshare', [...kept, 'sh', '-c', 'echo; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#holders.push(child);
    await new Promise((resolve, reject) => {
      child.stdout?.once('data', resolve);
      child.once('error', reject);
      child.once('exit', () => reject(new Error(`unshare ${flags.join(' ')} ended`)));
    });
    // With --fork the namespaces are those of the child.
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
    this.values[`ns.${name}`] = `/proc/${children === '' ? child.pid : children}/ns`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#holders) await stop(child, 0);
    for (const path of this.#mounted) await must('umount', ['-l', path]);
    for (const name of this.#links) await must('sh', ['-c', `ip link del ${name} 2>/dev/null || true`]);
    rmSync(this.#bundle, { recursive: true, force: true });
  }
}
