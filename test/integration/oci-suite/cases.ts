/**
 * The suite's cases: one JSON file each under cases/<area>/. A case is a fragment that is merged into base.json, and what
 * is expected of it; see README.md.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

/** Something that is made on the host before the container; paths are relative to the bundle. */
export type HostStep =
  | { folder: string; mode?: string; owner?: number }
  | { file: string; content?: string; mode?: string; owner?: number }
  | { link: string; to: string }
  | { tmpfs: string; options?: string; shared?: boolean }
  | { chown: string; owner: number }
  /** A process that holds new namespaces: `${ns.NAME}` is its folder of /proc. */
  | { namespaces: string; flags: string[] }
  /** A network interface in the host's namespace; `${link.NAME}` is its real name. */
  | { device: string; addresses?: string[] };

export interface Case {
  /** `<area>/<file name>`. */
  name: string;
  /** Merged into base.json: objects deep, null removes, `name+` appends to a list. */
  config: JsonObject;
  host?: HostStep[];
  expect:
    | { exit?: number; stdout?: string; stderr?: string; json?: Json; files?: Record<string, string | null> }
    | { error: string[]; exit?: number };
  /** Conditions that this machine may not meet: see needs.ts. */
  needs?: string[];
  /** Its tape depends on the host or on random names: no golden one is kept. */
  noGolden?: boolean;
}

const folder = import.meta.dirname;

export function readCases(): Case[] {
  return globSync('cases/**/*.json', { cwd: folder })
    .sort()
    .map((file) => {
      const name = file.replace(/^cases\//, '').replace(/\.json$/, '');
      const content = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Omit<Case, 'name'>;
      return { ...content, name };
    });
}

/** config.json of a case; `${name}` in any text is replaced from `values`. */
export function configOf(one: Pick<Case, 'config'>, values: Readonly<Record<string, string>>): JsonObject {
  const base = JSON.parse(readFileSync(join(folder, 'base.json'), 'utf8')) as JsonObject;
  return fill(merge(base, one.config), values) as JsonObject;
}

function merge(base: JsonObject, change: JsonObject): JsonObject {
  const result: JsonObject = { ...base };
  for (const [name, value] of Object.entries(change)) {
    const old = result[name];
    if (name.endsWith('+') && Array.isArray(value)) {
      const list = name.slice(0, -1);
      const before = result[list];
      result[list] = [...(Array.isArray(before) ? before : []), ...value];
    } else if (value === null) {
      delete result[name];
    } else if (isObject(value) && isObject(old)) {
      result[name] = merge(old, value);
    } else {
      result[name] = isObject(value) ? merge({}, value) : value;
    }
  }
  return result;
}

export function fill(value: Json, values: Readonly<Record<string, string>>): Json {
  if (typeof value === 'string') {
    return value.replaceAll(/\$\{([\w.]+)\}/g, (all, name: string) => values[name] ?? all);
  }
  if (Array.isArray(value)) return value.map((item) => fill(item, values));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [String(fill(name, values)), fill(item, values)]),
  );
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * What differs, one sentence each. Objects: every named member; lists: exactly; {$has, $lacks}: members of a list;
 * {$match}: a regular expression; {$not}: anything else; null: absent or null.
 */
export function differences(found: Json | undefined, wanted: Json, place = ''): string[] {
  if (wanted === null) return found === null || found === undefined ? [] : [told(place, 'nothing', found)];
  if (isObject(wanted)) {
    if ('$match' in wanted) {
      const pattern = String(wanted['$match']);
      return typeof found === 'string' && new RegExp(pattern).test(found)
        ? []
        : [told(place, `/${pattern}/`, found)];
    }
    if ('$not' in wanted) {
      const value = wanted['$not'] ?? null;
      return differences(found, value).length > 0 ? [] : [told(place, `not ${JSON.stringify(value)}`, found)];
    }
    if ('$has' in wanted || '$lacks' in wanted) {
      const list = Array.isArray(found) ? found : [];
      const has = (item: Json) => list.some((one) => differences(one, item).length === 0);
      const missing = ((wanted['$has'] ?? []) as Json[]).filter((item) => !has(item));
      const extra = ((wanted['$lacks'] ?? []) as Json[]).filter(has);
      return [
        ...missing.map((item) => told(place, `a member ${JSON.stringify(item)}`, found)),
        ...extra.map((item) => told(place, `no member ${JSON.stringify(item)}`, found)),
      ];
    }
    if (!isObject(found)) return [told(place, JSON.stringify(wanted), found)];
    return Object.entries(wanted).flatMap(([name, value]) =>
      differences(found[name], value, `${place}.${name}`),
    );
  }
  return JSON.stringify(found) === JSON.stringify(wanted) ? [] : [told(place, JSON.stringify(wanted), found)];
}

function told(place: string, wanted: string, found: Json | undefined): string {
  return `${place || 'output'}: expected ${wanted}, found ${JSON.stringify(found)}`;
}
