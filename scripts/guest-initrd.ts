/** A minimal initial RAM disk: busybox, the few modules that the disk needs, and a script. Format: the kernel's buffer-format.rst. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** In the order of loading; what they need themselves is added before them. */
const modules = ['virtio_pci', 'virtio_blk', 'virtio_console', 'overlay'];

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
/** new ASCII format, no checksum. */
const MAGIC = '070701';

/** The archive's bytes, uncompressed. `root` is an unpacked system with its kernel's modules. */
export function makeInitrd(root: string, kernelVersion: string): Buffer {
  const base = join(root, 'lib/modules', kernelVersion);
  const files = modulePaths(readFileSync(join(base, 'modules.dep'), 'utf8'));
  const script = [
    '#!/bin/busybox sh',
    ...files.map((path) => `/bin/busybox insmod /modules/${basename(path)}`),
    '/bin/busybox mount -t devtmpfs dev /dev',
    // The disk shows up a moment after its driver.
    'while ! [ -b /dev/vda ]; do /bin/busybox usleep 10000; done',
    '/bin/busybox mount -t ext4 -o noatime /dev/vda /root || exec /bin/busybox poweroff -f',
    '/bin/busybox mount --move /dev /root/dev',
    'exec /bin/busybox switch_root /root /lib/systemd/systemd',
  ];
  return archive([
    ...['bin', 'dev', 'modules', 'root'].map((name) => ({
      name,
      mode: S_IFDIR | 0o755,
      data: Buffer.alloc(0),
    })),
    { name: 'bin/busybox', mode: S_IFREG | 0o755, data: readFileSync(join(root, 'bin/busybox')) },
    { name: 'init', mode: S_IFREG | 0o755, data: Buffer.from(`${script.join('\n')}\n`) },
    ...files.map((path) => ({
      name: `modules/${basename(path)}`,
      mode: S_IFREG | 0o644,
      data: readFileSync(join(base, path)),
    })),
  ]);
}

/** modules.dep says `path: the paths it needs`, the nearest first. */
function modulePaths(dependencies: string): string[] {
  const needs = new Map(
    dependencies.split('\n').flatMap((line): [string, string[]][] => {
      const [path, rest] = line.split(':');
      return path === undefined || rest === undefined
        ? []
        : [
            [
              path,
              rest
                .trim()
                .split(/\s+/)
                .filter((word) => word !== ''),
            ],
          ];
    }),
  );
  const ordered = new Set<string>();
  for (const name of modules) {
    const path = [...needs.keys()].find((key) => basename(key) === `${name}.ko`);
    // Built into this kernel.
    if (path === undefined) continue;
    for (const needed of [...needs.get(path)!].reverse()) ordered.add(needed);
    ordered.add(path);
  }
  return [...ordered];
}

interface Entry {
  name: string;
  mode: number;
  data: Buffer;
}

function archive(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  const all = [...entries, { name: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) }];
  all.forEach(({ name, mode, data }, index) => {
    const fields = [index + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = MAGIC + fields.map((value) => value.toString(16).padStart(8, '0')).join('');
    parts.push(padded(Buffer.from(`${header}${name}\0`)), padded(data));
  });
  return Buffer.concat(parts);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
