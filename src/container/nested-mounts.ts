/** What somebody has mounted inside of a container's root filesystem on the host. */
import { readFileSync } from 'node:fs';
import { parseMountinfo } from '../linux/mountinfo.ts';

/** Mount points strictly below `folder`, deepest and youngest first. */
export function mountsBelow(folder: string): string[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))
    .map(({ place }) => place)
    .filter((place) => place.startsWith(`${folder}/`))
    .reverse()
    .toSorted((a, b) => b.split('/').length - a.split('/').length);
}
