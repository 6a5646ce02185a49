/** `NAME[:GROUP]` as the image's /etc/passwd and /etc/group know them (passwd(5), group(5)). */
import { WherryError } from '../errors.ts';
import { readInRoot } from '../linux/root-file.ts';
import type { User } from '../oci/types.ts';

const FILE_MAX = 256 * 1024;
const DEADLINE_MS = 2000;
const NUMBER = /^\d{1,10}$/;
const MAX_ID = 0xffff_fffe;

/**
 * Ids of `text`: a name or number, and after a colon a group's. Without a group it is the user's own of /etc/passwd (0 where that
 * knows no such number), with the groups of /etc/group that name the user. `root` is the container's root filesystem.
 * @throws WherryError invalid-argument, path `flag`, for a name that is not there
 */
export async function lookUpUser(root: string, text: string, flag: string): Promise<User> {
  const [who = '', group, ...more] = text.trim().split(':');
  if (who === '' || group === '' || more.length > 0)
    throw refuse(flag, `expected NAME or UID, and :GROUP or :GID, found ${JSON.stringify(text)}`);
  const numbers = NUMBER.test(who) && (group === undefined || NUMBER.test(group));
  if (numbers && group !== undefined) return { uid: idOf(who, flag), gid: idOf(group, flag) };
  const passwd = await lines(root, 'etc/passwd');
  const user = passwd.find(([name, , uid]) => (NUMBER.test(who) ? uid === who : name === who));
  if (user === undefined && !NUMBER.test(who))
    throw refuse(flag, `unable to find user ${who}: no matching entries in passwd file`, 'give its number');
  const uid = idOf(user?.[2] ?? who, flag);
  if (group !== undefined) return { uid, gid: await groupId(root, group, flag) };
  const result: User = { uid, gid: idOf(user?.[3] ?? '0', flag) };
  if (user === undefined) return result;
  const further = (await lines(root, 'etc/group'))
    .filter(([, , , members]) => members?.split(',').includes(user[0]!))
    .map(([, , gid]) => Number(gid))
    .filter((gid) => Number.isInteger(gid) && gid !== result.gid);
  return further.length > 0 ? { ...result, additionalGids: further } : result;
}

async function groupId(root: string, group: string, flag: string): Promise<number> {
  if (NUMBER.test(group)) return idOf(group, flag);
  const found = (await lines(root, 'etc/group')).find(([name]) => name === group)?.[2];
  if (found !== undefined) return idOf(found, flag);
  throw refuse(flag, `unable to find group ${group}: no matching entries in group file`, 'give its number');
}

async function lines(root: string, path: string): Promise<string[][]> {
  const file = await readInRoot(root, path, FILE_MAX, DEADLINE_MS);
  return (file?.toString('utf8') ?? '').split('\n').map((line) => line.split(':'));
}

function idOf(text: string, flag: string): number {
  const id = Number(text);
  if (NUMBER.test(text) && id <= MAX_ID) return id;
  throw refuse(flag, `${text} is no id: expected 0 to ${MAX_ID}`);
}

function refuse(flag: string, message: string, hint?: string): WherryError {
  return new WherryError('invalid-argument', `${flag}: ${message}`, {
    path: flag,
    ...(hint !== undefined && { hint }),
  });
}
