/**
 * wherryd's configuration: one JSON file, then the environment. A mistake never stops the daemon: the setting keeps its
 * default and the mistake is told, with the file and the field.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { WherryError } from '../errors.ts';

const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
const LOG_FORMATS = ['json', 'logfmt'] as const;
/** A year; longer is what 0 is for. */
const LONGEST_IDLE = 31_536_000;

export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = (typeof LOG_FORMATS)[number];

const idleSecondsText = `a whole number of seconds from 0 (never end) to ${LONGEST_IDLE}`;
const idleSeconds = z.int({ error: idleSecondsText }).min(0, { error: idleSecondsText }).max(LONGEST_IDLE, {
  error: idleSecondsText,
});
const oneOf = <const T extends readonly string[]>(names: T) =>
  z.enum(names, { error: `one of ${names.map((name) => `"${name}"`).join(', ')}` });

const fields = {
  /** Least severe lines that are written. */
  logLevel: oneOf(LOG_LEVELS).default('info'),
  logFormat: oneOf(LOG_FORMATS).default('json'),
  /** A keel started on demand ends so long after its last container and connection; 0: never. */
  idleSeconds: idleSeconds.default(60),
  /** What containerd is told to dial a shim with. grpc is for containerd 1.7 and for debugging: see the README. */
  protocol: oneOf(['ttrpc', 'grpc']).default('ttrpc'),
  /** Where containers go whose config.json has no linux.cgroupsPath. */
  cgroupParent: z
    .string({ error: 'an absolute path without ".."' })
    .regex(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))[^\0\n]*$/, { error: 'an absolute path without ".."' })
    .default('/wherry'),
};
const schema = z.object(fields);

export type WherrydConfig = z.infer<typeof schema>;

const environment = [
  ['WHERRY_LOG_LEVEL', 'logLevel'],
  ['WHERRY_LOG_FORMAT', 'logFormat'],
  ['WHERRY_IDLE_SECONDS', 'idleSeconds'],
] as const;

export interface LoadedConfig {
  config: WherrydConfig;
  /** The file that was read. */
  source: string | undefined;
  /** invalid-argument: everything that is wrong, as "FILE: FIELD: …" or "VARIABLE: …"; what it names has its default. */
  problem: WherryError | undefined;
}

/**
 * Reads WHERRY_CONFIG, else <runDir>/config.json, else /etc/wherry/config.json: the first that exists. The environment
 * wins over the file. Never throws.
 */
export function loadConfig(
  runDir: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
  systemFile = '/etc/wherry/config.json',
): LoadedConfig {
  const problems: string[] = [];
  const named = env['WHERRY_CONFIG'];
  const found = firstFile(
    named ? [named] : [`${runDir}/config.json`, systemFile],
    named !== undefined,
    problems,
  );
  const settings = found === undefined ? {} : parseFile(found.path, found.text, problems);
  for (const [variable, key] of environment) {
    const text = env[variable];
    if (text === undefined || text === '') continue;
    const value = key === 'idleSeconds' && /^\d+$/.test(text) ? Number(text) : text;
    const problem = check(key, value);
    if (problem === undefined) settings[key] = value;
    else problems.push(`${variable}: ${problem}`);
  }
  return {
    config: schema.parse(settings),
    source: found?.path,
    problem: problems.length === 0 ? undefined : new WherryError('invalid-argument', problems.join('; ')),
  };
}

function firstFile(
  candidates: readonly string[],
  required: boolean,
  problems: string[],
): { path: string; text: string } | undefined {
  for (const path of candidates) {
    try {
      return { path, text: readFileSync(path, 'utf8') };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' && !required) continue;
      problems.push(`${path}: cannot be read: ${message}`);
      return undefined;
    }
  }
  return undefined;
}

/** The file's good settings; the others are told. */
function parseFile(path: string, text: string, problems: string[]): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    problems.push(`${path}: not JSON: ${(error as Error).message}`);
    return {};
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    problems.push(`${path}: expected an object of settings, found ${show(parsed)}`);
    return {};
  }
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(parsed)) {
    const problem = check(key, value);
    if (problem === undefined) settings[key] = value;
    else problems.push(`${path}: ${key}: ${problem}`);
  }
  return settings;
}

/** What is wrong with one setting. */
function check(key: string, value: unknown): string | undefined {
  if (!Object.hasOwn(fields, key)) return `unknown setting; there are ${Object.keys(fields).join(', ')}`;
  const result = fields[key as keyof typeof fields].safeParse(value);
  return result.success ? undefined : `expected ${result.error.issues[0]!.message}, found ${show(value)}`;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
