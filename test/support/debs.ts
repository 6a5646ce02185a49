/**
 * The programs we are tested against and measured beside, from Debian's own packages, unpacked into .cache and never installed.
 * The mirror is the one that the machine's apt already uses; packages are verified by apt with Debian's keys.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from './paths.ts';
import { must, run } from './run.ts';

type Suite = 'bookworm' | 'trixie' | 'forky';

/** What is taken from each suite. */
const wanted: Record<Suite, readonly string[]> = {
  bookworm: ['containerd', 'runc', 'crun', 'libyajl2', 'busybox-static'],
  trixie: ['containerd'],
  forky: ['containerd'],
};
const suites = Object.keys(wanted) as Suite[];

/** Which Debian has which containerd. */
export const suiteOf = { '1.6': 'bookworm', '1.7': 'trixie', '2.1': 'forky' } as const;
export type ContainerdVersion = keyof typeof suiteOf;
export const containerdVersions = Object.keys(suiteOf) as ContainerdVersion[];

export interface Peers {
  /** Folder with containerd, ctr and containerd-shim-runc-v2. */
  containerd(version: ContainerdVersion): string;
  runc: string;
  crun: string;
  /** crun needs a library that the machine may not have. */
  crunLibraries: string;
  /** Statically linked. */
  busybox: string;
}

/** Downloads and unpacks what is missing of these suites; afterwards works without network. bookworm has runc, crun and busybox. */
export async function peers(of: readonly Suite[] = suites): Promise<Peers> {
  for (const suite of new Set<Suite>(['bookworm', ...of])) {
    await unpackedDebs(suite, wanted[suite]);
  }
  const bookworm = folderOf('bookworm', wanted.bookworm);
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return {
    containerd: (version) => join(folderOf(suiteOf[version], wanted[suiteOf[version]]), 'usr/bin'),
    runc: join(bookworm, 'usr/sbin/runc'),
    crun: join(bookworm, 'usr/bin/crun'),
    crunLibraries: join(bookworm, 'usr/lib', triplet),
    busybox: join(bookworm, 'bin/busybox'),
  };
}

/** A folder with the files of these packages, without what they depend on; downloaded once. */
export async function unpackedDebs(suite: Suite, packages: readonly string[]): Promise<string> {
  const folder = folderOf(suite, packages);
  if (!existsSync(folder)) await fetchDebs(suite, packages, folder);
  return folder;
}

/**
 * A folder with the files of these packages and of everything they depend on, its loader included, downloaded once: for programs that
 * want a newer libc than the machine's.
 */
export async function unpackedTree(suite: Suite, packages: readonly string[]): Promise<string> {
  const folder = folderOf(suite, ['with dependencies', ...packages]);
  if (!existsSync(folder)) await fetchDebs(suite, packages, folder, true);
  return folder;
}

/** Named by what is in it, so that a change of a list is a new download. */
function folderOf(suite: Suite, packages: readonly string[]): string {
  const key = createHash('sha256')
    .update(JSON.stringify([packages, process.arch]))
    .digest('hex')
    .slice(0, 12);
  return join(cache, 'debs', `${suite}-${key}`);
}

async function fetchDebs(
  suite: Suite,
  packages: readonly string[],
  folder: string,
  withDependencies = false,
): Promise<void> {
  process.stderr.write(`Downloading ${packages.join(', ')} of Debian ${suite}\n`);
  const work = `${folder}.${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  const debs = join(work, 'debs');
  mkdirSync(debs, { recursive: true });
  try {
    const { options: apt } = await aptFor(suite, join(work, 'apt'));
    await must('apt-get', [...apt, '-q', ...(withDependencies ? install(work) : ['download']), ...packages], {
      cwd: debs,
      timeout: 600_000,
    });
    for (const deb of readdirSync(debs).filter((name) => name.endsWith('.deb')))
      await must('dpkg', ['-x', join(debs, deb), join(work, 'root')]);
    try {
      renameSync(join(work, 'root'), folder);
    } catch (error) {
      // Another process was faster; its result is as good as ours.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Nothing counts as installed, so that everything needed comes; nothing is installed. */
function install(work: string): string[] {
  const status = join(work, 'status');
  writeFileSync(status, '');
  const options = ['-o', `Dir::State::status=${status}`, '-o', `Dir::Cache::archives=${join(work, 'debs')}`];
  return [...options, '--no-install-recommends', '--download-only', '-y', 'install'];
}

interface Apt {
  /** They make apt use lists, caches and sources of its own, beside and not instead of the machine's. */
  options: string[];
  /** File with the keys that the suite's lists are signed with. */
  keyring: string;
}

/** `folder`: where lists and caches go. */
export async function aptFor(suite: Suite, folder: string): Promise<Apt> {
  for (const part of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(folder, part), { recursive: true });
  const options = (sources: string): string[] => [
    ...['-o', `Dir::Etc::SourceList=${sources}`, '-o', 'Dir::Etc::SourceParts=/dev/null'],
    ...['-o', `Dir::State::Lists=${join(folder, 'lists')}`, '-o', `Dir::Cache=${join(folder, 'cache')}`],
    ...['-o', 'Acquire::Languages=none', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=3'],
  ];
  const mirror = machineMirror();
  const sources = (name: Suite, signedBy: string): string => {
    const path = join(folder, `${name}.sources`);
    const lines = [
      'Types: deb',
      `URIs: ${mirror}`,
      `Suites: ${name}`,
      'Components: main',
      `Signed-By: ${signedBy}`,
    ];
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const installed = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const direct = options(sources(suite, installed));
  const update = await run('apt-get', [...direct, '-q', 'update'], { timeout: 600_000 });
  if (update.code === 0 && !/NO_PUBKEY|not signed/.test(update.stdout + update.stderr))
    return { options: direct, keyring: installed };

  // An old machine lacks the newer suites' keys: take them from bookworm's keyring package, which its own key signs.
  const first = options(sources('bookworm', installed));
  await must('apt-get', [...first, '-q', 'update'], { timeout: 600_000 });
  const keys = join(folder, 'keyring');
  mkdirSync(keys);
  await must('apt-get', [...first, '-q', 'download', 'debian-archive-keyring'], {
    cwd: keys,
    timeout: 300_000,
  });
  await must('dpkg', ['-x', join(keys, readdirSync(keys)[0] ?? ''), keys]);
  const keyring = join(keys, installed);
  const chained = options(sources(suite, keyring));
  await must('apt-get', [...chained, '-q', 'update'], { timeout: 600_000 });
  return { options: chained, keyring };
}

/** The first Debian archive among the machine's apt sources, in either of apt's two file formats. */
export function machineMirror(): string {
  const folder = '/etc/apt/sources.list.d';
  const parts = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  for (const path of ['/etc/apt/sources.list', ...parts]) {
    if (!existsSync(path) || !/\.(list|sources)$/.test(path)) continue;
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      const found = /^(?:deb\s.*?|URIs:\s*)(\S+:\/\/\S+\/debian\/?)(?:\s|$)/.exec(line);
      if (found?.[1] !== undefined) return found[1];
    }
  }
  return 'http://deb.debian.org/debian';
}
