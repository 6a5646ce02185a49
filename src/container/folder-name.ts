/** Ids have up to 1,024 characters (runc's limit), names of folders 255 bytes. */
import { createHash } from 'node:crypto';

const LONGEST = 200;
const KEPT = 160;

/** The id itself, or its beginning and a digest of the whole; `~` is in no id, so no other id has this name. */
export function folderName(id: string): string {
  if (id.length <= LONGEST) return id;
  return `${id.slice(0, KEPT)}~${createHash('sha256').update(id).digest('hex').slice(0, 32)}`;
}
