/** Problems of a document, each with the place, what is allowed there and what was found; together they are one error. */
import { WherryError } from '../errors.ts';

export interface Problem {
  /** `process.args[0]`; empty for the document itself. */
  path: string;
  /** `expected …, found …`. */
  text: string;
}

type Key = string | number | symbol;

/** `['linux', 'sysctl', 'net.core.somaxconn']` as `linux.sysctl["net.core.somaxconn"]`. */
export function formatPath(keys: readonly Key[]): string {
  let path = '';
  for (const key of keys) {
    if (typeof key === 'number') path += `[${key}]`;
    else if (/^[A-Za-z_$][\w$]*$/.test(String(key))) path += path === '' ? String(key) : `.${String(key)}`;
    else path += `[${JSON.stringify(String(key))}]`;
  }
  return path;
}

/** The value in a few words; long strings are cut. */
export function describeFound(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') {
    return value.length > 60 ? `${JSON.stringify(value.slice(0, 60))}…` : JSON.stringify(value);
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** `expected` and the found value make the sentence. */
export function problem(path: string, expected: string, found: unknown): Problem {
  return { path, text: `expected ${expected}, found ${describeFound(found)}` };
}

const MAX_LISTED = 100;

/** One invalid-argument error that lists them all; `details.path` is the first one's place. */
export function problemsError(document: string, problems: readonly Problem[]): WherryError {
  const listed = problems
    .slice(0, MAX_LISTED)
    .map(({ path, text }) => (path === '' ? text : `${path}: ${text}`))
    .join('; ');
  const rest = problems.length > MAX_LISTED ? `; and ${problems.length - MAX_LISTED} more` : '';
  return new WherryError('invalid-argument', `${document}: ${listed}${rest}`, {
    path: problems[0]?.path || document,
  });
}
