/**
 * A document with values of a wrong shape is still asked what its other fields say together, so that one pass tells everything: the
 * wrong values are taken out, and what the specification demands is put in their place.
 */
type Key = PropertyKey;

const demanded = {
  ociVersion: '1.0.0',
  process: { args: ['-'], cwd: '/' },
  root: { path: '/' },
};

/** A copy of `raw` without the members of objects that lie on the wrong places. */
export function withoutWrong(raw: unknown, places: readonly (readonly Key[])[]): unknown {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return undefined;
  const copy = copyOf(raw) as Record<Key, unknown>;
  for (const place of places) remove(copy, place);
  for (const [name, value] of Object.entries(demanded)) copy[name] = fill(copy[name], value);
  return copy;
}

/** Objects and lists anew, anything else as it is. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, copyOf(member)]));
}

/** The innermost member of an object on the way goes: items of lists keep their numbers. */
function remove(root: Record<Key, unknown>, place: readonly Key[]): void {
  let owner: Record<Key, unknown> | undefined;
  let name: Key | undefined;
  let value: unknown = root;
  for (const key of place) {
    if (typeof value !== 'object' || value === null) break;
    if (!Array.isArray(value)) {
      owner = value as Record<Key, unknown>;
      name = key;
    }
    value = (value as Record<Key, unknown>)[key];
  }
  if (owner !== undefined && name !== undefined) delete owner[name];
}

function fill(value: unknown, wanted: unknown): unknown {
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) return value ?? wanted;
  if (value === undefined) return copyOf(wanted);
  if (typeof value !== 'object' || value === null) return wanted;
  const members = value as Record<Key, unknown>;
  for (const [name, member] of Object.entries(wanted)) members[name] = fill(members[name], member);
  return members;
}
