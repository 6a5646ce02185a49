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

const suiteOf = { '1.6': 'bookworm', '1.7': 'trixie', '2.1': 'forky' } as const;
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

/** Downloads and unpacks what is missing; afterwards works without network. */
export async function peers(): Promise<Peers> {
  const folder = join(cache, 'debs', key());
  if (!existsSync(folder)) await fetchAll(folder);
  const bookworm = join(folder, 'bookworm');
  return {
    containerd: (version) => join(folder, suiteOf[version], 'usr/bin'),
    runc: join(bookworm, 'usr/sbin/runc'),
    crun: join(bookworm, 'usr/bin/crun'),
    crunLibraries: join(
      bookworm,
      'usr/lib',
      process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu',
    ),
    busybox: join(bookworm, 'bin/busybox'),
  };
}

function key(): string {
  return createHash('sha256')
    .update(JSON.stringify([wanted, process.arch, 1]))
    .digest('hex')
    .slice(0, 16);
}

async function fetchAll(folder: string): Promise<void> {
  const work = `${folder}.${process.pid}`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  try {
    const apt = await aptOptions(join(work, 'apt'));
    for (const suite of suites) {
      const debs = join(work, 'apt', suite);
      mkdirSync(debs);
      const names = wanted[suite].map((name) => `${name}/${suite}`);
      await must('apt-get', [...apt, '-q', 'download', ...names], { cwd: debs, timeout: 600_000 });
      const target = join(work, suite);
      for (const deb of readdirSync(debs)) await must('dpkg', ['-x', join(debs, deb), target]);
    }
    rmSync(join(work, 'apt'), { recursive: true });
    // Another process may have been faster; its result is as good as ours.
    if (!existsSync(folder)) renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Options that make apt use lists, caches and sources of its own, beside and not instead of the machine's. */
async function aptOptions(folder: string): Promise<string[]> {
  for (const part of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(folder, part), { recursive: true });
  const options = (sources: string): string[] => [
    ...['-o', `Dir::Etc::SourceList=${sources}`, '-o', 'Dir::Etc::SourceParts=/dev/null'],
    ...['-o', `Dir::State::Lists=${join(folder, 'lists')}`, '-o', `Dir::Cache=${join(folder, 'cache')}`],
    ...['-o', 'Acquire::Languages=none', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=3'],
  ];
  const mirror = machineMirror();
  const sources = (names: readonly string[], signedBy: string): string => {
    const path = join(folder, `${names.join('-')}.sources`);
    const lines = [
      'Types: deb',
      `URIs: ${mirror}`,
      `Suites: ${names.join(' ')}`,
      'Components: main',
      `Signed-By: ${signedBy}`,
    ];
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const installed = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const direct = options(sources(suites, installed));
  const update = await run('apt-get', [...direct, '-q', 'update'], { timeout: 600_000 });
  if (update.code === 0 && !/NO_PUBKEY|not signed/.test(update.stdout + update.stderr)) return direct;

  // An old machine lacks the newer suites' keys: take them from bookworm's keyring package, which its own key signs.
  const first = options(sources(['bookworm'], installed));
  await must('apt-get', [...first, '-q', 'update'], { timeout: 600_000 });
  const keys = join(folder, 'keyring');
  mkdirSync(keys);
  await must('apt-get', [...first, '-q', 'download', 'debian-archive-keyring/bookworm'], {
    cwd: keys,
    timeout: 300_000,
  });
  await must('dpkg', ['-x', join(keys, readdirSync(keys)[0] ?? ''), keys]);
  const chained = options(sources(suites, join(keys, installed)));
  await must('apt-get', [...chained, '-q', 'update'], { timeout: 600_000 });
  return chained;
}

/** The first Debian archive among the machine's apt sources, in either of apt's two file formats. */
function machineMirror(): string {
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
