/**
 * The OCI configuration: config.json, its types, its checks, its defaults and the profiles that belong to it.
 * Here lives what the specification says and nothing that acts on it: no system call, no file, no cgroup.
 * Entry points: parseConfig and checkConfig (here), unsupported (supported.ts), defaultSpec and launchSpec.
 */
import { WherryError } from '../errors.ts';
import { parseJson } from './json.ts';
import { normalise } from './normalise.ts';
import { formatPath, type Problem, problem, problemsError } from './problems.ts';
import { withoutWrong } from './salvage.ts';
import { specSchema } from './schema.ts';
import type { Spec } from './types.ts';
import { unknownProperties } from './unknown.ts';
import { validate } from './validate.ts';

export interface CheckedConfig {
  config: Spec;
  /** Sentences for the log: what was ignored, and why. */
  warnings: string[];
}

/** Far above what any engine writes (docker's with its seccomp profile is 40 KiB). */
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

function valueAt(root: unknown, keys: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of keys) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.hasOwn(value, key) ? (value as Record<PropertyKey, unknown>)[key] : undefined;
  }
  return value;
}

/** Rounds of taking out: a member, then what cannot be without it. */
const ROUNDS = 4;

/** What the rest says together, but for what only looks wrong because something is missing now. */
function others(raw: unknown, issues: readonly Issue[]): Problem[] {
  const removed: PropertyKey[][] = [];
  let places = issues.map(({ path }) => path);
  let rest = raw;
  for (let round = 0; round < ROUNDS; round++) {
    removed.push(...places);
    rest = withoutWrong(rest, places);
    const result = specSchema.safeParse(rest);
    if (!result.success) {
      places = result.error.issues.map(({ path }) => path.slice(0, -1));
      continue;
    }
    normalise(result.data);
    const missing = removed.map((keys) => formatPath(keys));
    const touched = (path: string): boolean =>
      missing.some((place) => place.startsWith(path) || path.startsWith(place));
    return validate(result.data).filter(
      ({ path, text }) => !touched(path) && !text.includes('nothing without a '),
    );
  }
  return [];
}

interface Issue {
  code?: string;
  path: PropertyKey[];
  message: string;
  keys?: string[];
}

function toProblem(raw: unknown, issue: Issue): Problem {
  const found = issue.code === 'unrecognized_keys' ? issue.keys?.[0] : valueAt(raw, issue.path);
  return problem(formatPath(issue.path), issue.message, found);
}

/**
 * Checks a value that has the shape of config.json, as `JSON.parse` gives it (64-bit integers may be bigints).
 * @throws WherryError invalid-argument that lists every problem with its place
 */
export function checkConfig(raw: unknown, name = 'config.json'): CheckedConfig {
  const result = specSchema.safeParse(raw);
  if (!result.success) {
    throw problemsError(name, [
      ...result.error.issues.map((issue) => toProblem(raw, issue)),
      ...others(raw, result.error.issues),
    ]);
  }
  const config = result.data;
  const warnings = [...unknownProperties(raw, config), ...normalise(config)];
  const problems = validate(config);
  if (problems.length > 0) throw problemsError(name, problems);
  return { config, warnings };
}

/**
 * Reads config.json. Properties that the specification does not know are tolerated and named in the warnings.
 * @throws WherryError invalid-argument: not JSON (line and column), or every problem with its place
 */
export function parseConfig(bytes: Uint8Array | string, name = 'config.json'): CheckedConfig {
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw new WherryError(
      'invalid-argument',
      `${name}: expected at most ${MAX_CONFIG_BYTES} bytes, found ${bytes.length}`,
      {
        path: name,
      },
    );
  }
  return checkConfig(parseJson(bytes, name), name);
}
