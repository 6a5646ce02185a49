/** JSON text to values: exact 64-bit integers, errors with line and column. */
import { isUtf8 } from 'node:buffer';
import { WherryError } from '../errors.ts';

/** JSON.rawJSON (ECMAScript proposal json-parse-with-source) is in Node and not yet in the library types. */
const rawJson = JSON as typeof JSON & { rawJSON(text: string): unknown };

const TOKEN =
  /(?<space>[ \t\r\n]+)|(?<string>"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(?<atom>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.+-])|(?:true|false|null)(?!\w))|(?<mark>[[\]{}:,])/y;

type Expected = 'value' | 'value or ]' | 'name' | 'name or }' | ':' | ', or ]' | ', or }' | 'end';

const sentences: Record<Expected, string> = {
  value: 'a value',
  'value or ]': 'a value or ]',
  name: 'a name in double quotes',
  'name or }': 'a name in double quotes or }',
  ':': ':',
  ', or ]': ', or ]',
  ', or }': ', or }',
  end: 'the end',
};

/** Where the text stops being JSON (RFC 8259), and what could have stood there. Only called for text that is not JSON. */
function findMistake(text: string): { offset: number; expected: string } {
  const open: ('[' | '{')[] = [];
  let expected: Expected = 'value';
  let offset = 0;
  const afterValue = (): Expected => (open.length === 0 ? 'end' : open.at(-1) === '[' ? ', or ]' : ', or }');
  const mistake = (): { offset: number; expected: string } => ({ offset, expected: sentences[expected] });
  while (offset < text.length) {
    TOKEN.lastIndex = offset;
    const groups = TOKEN.exec(text)?.groups;
    if (groups === undefined) return mistake();
    const next = TOKEN.lastIndex;
    if (groups['space'] === undefined) {
      const { string, atom, mark } = groups;
      const wantsValue = expected === 'value' || expected === 'value or ]';
      const wantsName = expected === 'name' || expected === 'name or }';
      if (string !== undefined && wantsName) expected = ':';
      else if ((string !== undefined || atom !== undefined) && wantsValue) expected = afterValue();
      else if ((mark === '[' || mark === '{') && wantsValue) {
        open.push(mark);
        expected = mark === '[' ? 'value or ]' : 'name or }';
      } else if (mark === ':' && expected === ':') expected = 'value';
      else if (mark === ',' && (expected === ', or ]' || expected === ', or }')) {
        expected = expected === ', or ]' ? 'value' : 'name';
      } else if (
        (mark === ']' && (expected === ', or ]' || expected === 'value or ]')) ||
        (mark === '}' && (expected === ', or }' || expected === 'name or }'))
      ) {
        open.pop();
        expected = afterValue();
      } else return mistake();
    }
    offset = next;
  }
  return mistake();
}

/** Text and place for people: `line 3, column 7: expected a value, found "}"`. Lines and columns count from 1. */
function describeMistake(text: string): string {
  const { offset, expected } = findMistake(text);
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  const column = offset - (before.lastIndexOf('\n') + 1) + 1;
  TOKEN.lastIndex = offset;
  const token = TOKEN.exec(text)?.[0];
  const character = text[offset];
  let found = token ?? JSON.stringify(character);
  if (character === undefined) found = 'the end of the file';
  else if (character === '"')
    found = token === undefined ? 'a string that is not closed or not valid' : 'a string';
  else if (token !== undefined) found = JSON.stringify(token);
  return `line ${line}, column ${column}: expected ${expected}, found ${found}`;
}

/** Integers that a double cannot hold become bigints; the source text of a number is the third argument of a reviver. */
function exactIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && /^-?[0-9]+$/.test(source) ? BigInt(source) : value;
}

/** Properties that are null are absent: Go programs write nil slices, maps and pointers so. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(entries.map(([name, member]) => [name, withoutNulls(member)]));
}

/**
 * The value of a JSON document. `name` is the document's name in errors.
 * @throws WherryError invalid-argument with line and column
 */
export function parseJson(input: Uint8Array | string, name: string): unknown {
  const fail = (what: string, cause?: unknown): WherryError =>
    new WherryError('invalid-argument', `${name}: ${what}`, { path: name, cause });
  if (typeof input !== 'string' && !isUtf8(input)) throw fail('expected UTF-8 text, found other bytes');
  const text =
    typeof input === 'string'
      ? input
      : Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString();
  try {
    const value: unknown = /[0-9]{16}/.test(text) ? JSON.parse(text, exactIntegers) : JSON.parse(text);
    return text.includes('null') && /[:,[]\s*null\b/.test(text) ? withoutNulls(value) : value;
  } catch (cause) {
    if (cause instanceof RangeError) throw fail('nested too deeply', cause);
    throw fail(`not JSON: ${describeMistake(text)}`, cause);
  }
}

/** JSON text of a value that may hold bigints, indented with tabs as `runc spec` writes it. */
export function formatJson(value: unknown, indent = '\t'): string {
  return JSON.stringify(
    value,
    (_key, member: unknown) => (typeof member === 'bigint' ? rawJson.rawJSON(member.toString()) : member),
    indent,
  );
}
