/** A busybox image and root filesystem, made by code: nothing is pulled from a registry. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './run.ts';
import { type TarEntry, tar } from './tar.ts';

/** The name under which `ctr image import` stores the image. */
export const imageName = 'wherry.test/busybox:latest';

const files: readonly TarEntry[] = [
  {
    name: 'etc/passwd',
    mode: 0o644,
    content: Buffer.from('root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n'),
  },
  { name: 'etc/group', mode: 0o644, content: Buffer.from('root:x:0:\nnobody:x:65534:\n') },
];
const folders: readonly [name: string, mode: number][] = [
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['proc', 0o555],
  ['root', 0o700],
  ['sys', 0o555],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['var', 0o755],
];

/** Everything in the root filesystem, folders first. */
async function entries(busybox: string): Promise<TarEntry[]> {
  const applets = (await must(busybox, ['--list'])).stdout.trim().split('\n');
  return [
    ...folders.map(([name, mode]) => ({ name, mode })),
    { name: 'bin/busybox', mode: 0o755, content: readFileSync(busybox) },
    ...applets
      .filter((name) => name !== 'busybox')
      .map((name) => ({ name: `bin/${name}`, mode: 0o777, link: 'busybox' })),
    ...files,
  ];
}

/** Writes the root filesystem into an empty folder. */
export async function writeRootfs(busybox: string, folder: string): Promise<void> {
  for (const entry of await entries(busybox)) {
    const path = join(folder, entry.name);
    if (entry.link !== undefined) symlinkSync(entry.link, path);
    else if (entry.content !== undefined) writeFileSync(path, entry.content, { mode: entry.mode });
    else mkdirSync(path, { recursive: true });
    if (entry.link === undefined) chmodSync(path, entry.mode);
  }
}

/** Writes the busybox image for `ctr image import`. */
export async function writeImage(busybox: string, path: string): Promise<void> {
  writeImageOf(imageName, await entries(busybox), ['/bin/sh'], path);
}

/** Writes an image as a tar of an OCI image layout (image-spec, "Image Layout"). */
export function writeImageOf(
  name: string,
  content: readonly TarEntry[],
  command: readonly string[],
  path: string,
): void {
  const layer = tar(content);
  const blobs: TarEntry[] = [];
  const blob = (
    mediaType: string,
    content: Uint8Array,
  ): { mediaType: string; digest: string; size: number } => {
    const hex = createHash('sha256').update(content).digest('hex');
    blobs.push({ name: `blobs/sha256/${hex}`, mode: 0o644, content });
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const layerBlob = blob('application/vnd.oci.image.layer.v1.tar', layer);
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const config = blob(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture,
      os: 'linux',
      config: { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: command, WorkingDir: '/' },
      rootfs: { type: 'layers', diff_ids: [layerBlob.digest] },
    }),
  );
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = blob(
    manifestType,
    json({ schemaVersion: 2, mediaType: manifestType, config, layers: [layerBlob] }),
  );
  const index = {
    schemaVersion: 2,
    manifests: [
      {
        ...manifest,
        platform: { architecture, os: 'linux' },
        annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': 'latest' },
      },
    ],
  };
  writeFileSync(
    path,
    tar([
      { name: 'oci-layout', mode: 0o644, content: json({ imageLayoutVersion: '1.0.0' }) },
      { name: 'index.json', mode: 0o644, content: json(index) },
      { name: 'blobs', mode: 0o755 },
      { name: 'blobs/sha256', mode: 0o755 },
      ...blobs,
    ]),
  );
}
