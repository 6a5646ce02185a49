/** `npm run setup`: installs the Debian packages that building and testing need, if any is missing. */
import { existsSync } from 'node:fs';
import { say, show } from './tools.ts';

/** What is needed, and a file that shows it is there. */
const needed: readonly [name: string, files: readonly string[]][] = [
  ['gcc', ['/usr/bin/gcc']],
  ['make', ['/usr/bin/make']],
  ['libc6-dev', ['/usr/include/stdio.h']],
  [
    'libseccomp2',
    ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((triplet) => `/usr/lib/${triplet}/libseccomp.so.2`),
  ],
  ['util-linux', ['/usr/bin/unshare']],
  ['mount', ['/usr/bin/umount', '/bin/umount']],
  ['iproute2', ['/usr/sbin/ip', '/sbin/ip', '/usr/bin/ip']],
  ['git', ['/usr/bin/git']],
];

/** Idempotent; does nothing, and needs no network, where all is there. */
export function installSystemPackages(): void {
  const missing = needed.filter(([, files]) => !files.some((file) => existsSync(file))).map(([name]) => name);
  if (missing.length === 0) return;
  if (!existsSync('/usr/bin/apt-get') || process.getuid?.() !== 0) {
    throw new Error(
      `missing on this machine: ${missing.join(' ')}; install them (on Debian, as root: apt-get install)`,
    );
  }
  say(`Installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (show('apt-get', ['-q', 'update'], { env }) !== 0) throw new Error('apt-get update failed');
  if (show('apt-get', ['-q', 'install', '-y', '--no-install-recommends', ...missing], { env }) !== 0) {
    throw new Error(`apt-get install ${missing.join(' ')} failed`);
  }
}

if (import.meta.main) {
  installSystemPackages();
  say('All needed packages are there.');
}
