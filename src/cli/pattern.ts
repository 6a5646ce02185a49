/**
 * Many containers by one pattern, as crun's `kill --regex` and `delete --regex` take it: a POSIX extended regular expression (regex(7)) that
 * is looked for anywhere in the id.
 */
import { createContext, runInContext } from 'node:vm';
import { WherryError } from '../errors.ts';
import { type CommandContext, keyOf } from './context.ts';
import { shown } from './parse.ts';

/** There are patterns that take forever; wherryd serves others too. */
const LONGEST_MS = 250;
const LONGEST_PATTERN = 1024;

/** What regex(7) calls classes, within brackets, for characters that ids may have. */
const CLASSES: Readonly<Record<string, string>> = {
  alnum: 'A-Za-z0-9',
  alpha: 'A-Za-z',
  blank: ' \\t',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\s',
  upper: 'A-Z',
  xdigit: 'A-Fa-f0-9',
};

/** Acts on each container of this root whose id matches, in their order; what fails is a warning, as in crun, and the others follow. */
export async function forMatching(
  context: CommandContext,
  pattern: string,
  act: (id: string) => Promise<unknown>,
): Promise<number> {
  const { scope, namespace } = keyOf(context, '');
  const ids = context.deps.runtime.list({ scope, namespace }).map(({ key }) => key.id);
  for (const id of matching(pattern, ids.sort())) {
    try {
      await act(id);
    } catch (thrown) {
      context.warn(`${id}: ${WherryError.from(thrown).describe()}`);
    }
  }
  return 0;
}

/** The ids in which the pattern is found; invalid-argument for what is none, or takes too long. */
export function matching(pattern: string, ids: readonly string[]): string[] {
  const refuse = (why: string): never => {
    throw new WherryError('invalid-argument', `invalid regular expression "${shown(pattern)}": ${why}`, {
      path: '--regex',
      hint: 'see regex(7); for example ^web-[0-9]+$',
    });
  };
  if (pattern.length > LONGEST_PATTERN) refuse(`more than ${LONGEST_PATTERN} characters`);
  const source = asJavaScript(pattern) ?? refuse('it is not an extended regular expression');
  let expression: RegExp;
  try {
    expression = new RegExp(source);
  } catch {
    return refuse('it is not an extended regular expression');
  }
  try {
    const found: unknown = runInContext(
      'ids.filter((id) => expression.test(id))',
      createContext({ ids: [...ids], expression }),
      { timeout: LONGEST_MS },
    );
    return found as string[];
  } catch {
    return refuse('it takes too long');
  }
}

/** undefined: what is special in JavaScript only, or an unfinished bracket. */
function asJavaScript(pattern: string): string | undefined {
  let source = '';
  for (let at = 0; at < pattern.length; ) {
    const char = pattern[at]!;
    if (char === '[') {
      const bracket = bracketAt(pattern, at);
      if (bracket === undefined) return undefined;
      source += bracket.source;
      at = bracket.end;
    } else if (char === '\\') {
      const next = pattern[at + 1];
      if (next === undefined) return undefined;
      source += escaped(next);
      at += 2;
    } else if (char === '(' && pattern[at + 1] === '?') return undefined;
    else {
      source += char;
      at += 1;
    }
  }
  return source;
}

/** glibc's additions keep their meaning, every other letter stands for itself. */
function escaped(char: string): string {
  if (char === '<' || char === '>') return '\\b';
  if (/[wWsSbB1-9]/.test(char)) return `\\${char}`;
  return literal(char);
}

function literal(char: string): string {
  return /[\^$\\.*+?()[\]{}|/-]/.test(char) ? `\\${char}` : char;
}

/** A bracket expression: a backslash is itself there, and a `]` that comes first, too. */
function bracketAt(pattern: string, start: number): { source: string; end: number } | undefined {
  let at = start + 1;
  const negated = pattern[at] === '^';
  if (negated) at += 1;
  let inside = '';
  for (const first = at; at < pattern.length; ) {
    const char = pattern[at]!;
    if (char === ']' && at > first) return { source: `[${negated ? '^' : ''}${inside}]`, end: at + 1 };
    const [whole, name] = /^\[:([a-z]+):\]/.exec(pattern.slice(at)) ?? [];
    if (whole !== undefined) {
      const members = CLASSES[name ?? ''];
      if (members === undefined) return undefined;
      inside += members;
      at += whole.length;
      continue;
    }
    // Equivalence classes and collating symbols of locales.
    if (char === '[' && (pattern[at + 1] === '=' || pattern[at + 1] === '.')) return undefined;
    const range = char === '-' && at > first && pattern[at + 1] !== ']';
    inside += range ? '-' : literal(char);
    at += 1;
  }
  return undefined;
}
