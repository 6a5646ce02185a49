/**
 * What the init's standard streams were at the dump. They lead out of the container, so the image only has names for them, and a restore
 * puts others in their places. descriptors.json in the image lists them; it is runc's file, and its pipes mean what they mean there.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../../errors.ts';
import type { MountInfo } from '../../linux/mountinfo.ts';

const STREAMS = 3;
/** In descriptors.json: a file outside of the container, by its name in the image and the path that it had; runc passes over it. */
const external = /^external:(file\[\w+:\w+\]):/;

export interface DumpedStreams {
  /** Text of descriptors.json. */
  text: string;
  /** For criu's --external. */
  externals: string[];
}

export async function dumpedStreams(
  pid: number,
  mounts: readonly Pick<MountInfo, 'id'>[],
): Promise<DumpedStreams> {
  const inside = new Set(mounts.map(({ id }) => id));
  const names: string[] = [];
  const externals: string[] = [];
  for (let number = 0; number < STREAMS; number++) {
    const path = `/proc/${pid}/fd/${number}`;
    const link = linkOf(path);
    const mount = mountOf(pid, number);
    if (!link.startsWith('/') || mount === undefined || inside.has(mount)) {
      names.push(link);
      continue;
    }
    const { ino } = await stat(path, { bigint: true });
    const name = `file[${mount.toString(16)}:${ino.toString(16)}]`;
    names.push(`external:${name}:${link}`);
    externals.push(name);
  }
  return { text: JSON.stringify(names), externals: [...new Set(externals)] };
}

/** '' for one that is closed. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function mountOf(pid: number, number: number): number | undefined {
  try {
    const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${number}`, 'utf8'))?.[1];
    return id === undefined ? undefined : Number(id);
  } catch {
    return undefined;
  }
}

/** Name in the image → the stream that takes its place. Streams that were one file become the first of them. */
export async function inheritedStreams(imagesDir: string): Promise<{ name: string; stream: number }[]> {
  const path = join(imagesDir, 'descriptors.json');
  let names: unknown;
  try {
    names = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new WherryError('failed-precondition', `cannot read ${path}: ${reason}`, {
      path: '--image-path',
      hint: 'name the folder that a checkpoint was written to',
      cause,
    });
  }
  if (!Array.isArray(names)) return [];
  const found = new Map<string, number>();
  names.forEach((text: unknown, stream) => {
    if (typeof text !== 'string') return;
    const name = external.exec(text)?.[1] ?? (/^(?:pipe|socket):/.test(text) ? text : undefined);
    if (name !== undefined && !found.has(name)) found.set(name, stream);
  });
  return [...found].map(([name, stream]) => ({ name, stream }));
}
