import { formatPath } from './problems.ts';

/** Sections of other platforms: config.md allows them beside `linux`. */
const otherPlatforms = new Set(['solaris', 'windows', 'vm', 'zos', 'freebsd']);
const MAX_NAMED = 10;

/**
 * Properties of `raw` that the schema dropped: a misspelt `maskedPath` masks nothing, so its author wants to know.
 * The specification says that such properties are ignored and never an error (config.md, "Extensibility").
 */
export function unknownProperties(raw: unknown, checked: unknown): string[] {
  const places: string[] = [];
  const compare = (left: unknown, right: unknown, keys: (string | number)[]): void => {
    if (typeof left !== 'object' || left === null || typeof right !== 'object' || right === null) return;
    if (Array.isArray(left)) {
      if (typeof left[0] !== 'object' || !Array.isArray(right)) return;
      for (const [index, item] of left.entries()) compare(item, right[index], [...keys, index]);
      return;
    }
    for (const [name, member] of Object.entries(left)) {
      if (keys.length === 0 && otherPlatforms.has(name)) continue;
      if (!Object.hasOwn(right, name)) places.push(formatPath([...keys, name]));
      else if (typeof member === 'object') {
        compare(member, (right as Record<string, unknown>)[name], [...keys, name]);
      }
    }
  };
  compare(raw, checked, []);
  if (places.length > MAX_NAMED) places.splice(MAX_NAMED, places.length, `${places.length - MAX_NAMED} more`);
  return places.length === 0
    ? []
    : [`properties that the specification does not know are ignored: ${places.join(', ')}`];
}
