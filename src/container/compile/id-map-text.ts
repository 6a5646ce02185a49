/**
 * The option `idmap=uids=0-1000-10#10-5000-1;gids=0-1000-10` of a mount: each range is the first id on the filesystem, the id of the
 * host that it is shown as, and how many follow. `@` before a list means ids of the container in the second place, as with crun.
 */
import { WherryError } from '../../errors.ts';
import type { LinuxIdMapping, Spec } from '../../oci/types.ts';

const MAX_ID = 0xffff_fffe;

/** @throws WherryError invalid-argument that names the field and the part that is wrong */
export function parseIdMapText(
  text: string,
  spec: Spec,
  path: string,
): { uids: LinuxIdMapping[]; gids: LinuxIdMapping[] } {
  const lists: { uids?: LinuxIdMapping[]; gids?: LinuxIdMapping[] } = {};
  for (const part of text.split(';')) {
    const [, kind, relative, ranges] = /^(uids|gids)=(@?)(.+)$/.exec(part) ?? [];
    if ((kind !== 'uids' && kind !== 'gids') || ranges === undefined || lists[kind] !== undefined) {
      throw wrong(part, path);
    }
    const list = ranges.split('#').map((range) => parseRange(range, path));
    const own = spec.linux?.[kind === 'uids' ? 'uidMappings' : 'gidMappings'] ?? [];
    lists[kind] = relative === '@' ? list.map((range) => throughContainer(range, own, path)) : list;
  }
  if (lists.uids === undefined || lists.gids === undefined) throw wrong(text, path);
  return { uids: lists.uids, gids: lists.gids };
}

function parseRange(text: string, path: string): LinuxIdMapping {
  const numbers = /^(\d{1,10})-(\d{1,10})-(\d{1,10})$/.exec(text)?.slice(1).map(Number) ?? [];
  const [containerID = -1, hostID = -1, size = 0] = numbers;
  if (numbers.length !== 3 || size === 0 || Math.max(containerID, hostID) + size - 1 > MAX_ID) {
    throw wrong(text, path);
  }
  return { containerID, hostID, size };
}

/** The whole range must lie in one of the container's, as one range cannot become two places. */
function throughContainer(
  range: LinuxIdMapping,
  mappings: readonly LinuxIdMapping[],
  path: string,
): LinuxIdMapping {
  const { hostID: first, size } = range;
  const around = mappings.find(
    ({ containerID, size: room }) => first >= containerID && first + size <= containerID + room,
  );
  if (around === undefined) {
    throw new WherryError(
      'invalid-argument',
      `${path}: the container's user namespace maps no ids ${first} to ${first + size - 1} in one piece`,
      { path },
    );
  }
  return { ...range, hostID: around.hostID + (first - around.containerID) };
}

function wrong(text: string, path: string): WherryError {
  return new WherryError('invalid-argument', `${path}: ${JSON.stringify(text)} is no list of id mappings`, {
    path,
    hint: 'write idmap=uids=FIRST-HOST-COUNT;gids=FIRST-HOST-COUNT, several ranges with # between them',
  });
}
