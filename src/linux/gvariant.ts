/**
 * GVariant's text format as D-Bus values. Source: GLib's "GVariant Text Format". All of D-Bus' types but handles, with
 * `@type` and `uint32`-like prefixes; what has no type of its own gets the format's: int32, double, as.
 */
import { type BusValue, completeTypes, type Variant, variant } from './sdbus.ts';

/** Signature letters by the words that may stand before a value. */
const words: Readonly<Record<string, string>> = {
  ...{ boolean: 'b', byte: 'y', int16: 'n', uint16: 'q', int32: 'i', uint32: 'u', int64: 'x', uint64: 't' },
  ...{ double: 'd', string: 's', objectpath: 'o', signature: 'g' },
};
const ranges: Readonly<Record<string, readonly [bigint, bigint]>> = {
  y: [0n, 255n],
  n: [-(2n ** 15n), 2n ** 15n - 1n],
  q: [0n, 2n ** 16n - 1n],
  i: [-(2n ** 31n), 2n ** 31n - 1n],
  u: [0n, 2n ** 32n - 1n],
  x: [-(2n ** 63n), 2n ** 63n - 1n],
  t: [0n, 2n ** 64n - 1n],
};
const escapes: Readonly<Record<string, string>> = {
  ...{ a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
};
const SIGNATURE = /^[ybnqiuxtdsogva(){}]+$/;
/** As deep as D-Bus lets arrays nest. */
const DEPTH = 32;

/** Throws SyntaxError with what was expected where. */
export function parseGVariant(text: string): Variant {
  const parser = new Parser(text);
  const value = parser.value(undefined, 0);
  parser.end();
  return value;
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** `wanted` is the signature that the place calls for; undefined: whatever the text says. */
  value(wanted: string | undefined, depth: number): Variant {
    if (depth > DEPTH) this.#fail('a value that is nested less deeply');
    const type = this.#type();
    if (type !== undefined) {
      if (wanted !== undefined && wanted !== type) this.#fail(`a value of type ${wanted}`);
      return this.value(type, depth);
    }
    if (wanted === 'v' || (wanted === undefined && this.#peek('<'))) return this.#boxed(depth);
    if (this.#peek('[')) return this.#array(wanted, depth);
    if (this.#peek('{')) return this.#dictionary(wanted, depth);
    if (this.#peek('(')) return this.#struct(wanted, depth);
    return this.#basic(wanted);
  }

  end(): void {
    this.#space();
    if (this.#at < this.#text.length) this.#fail('the end');
  }

  /** `@as` or `uint32`. */
  #type(): string | undefined {
    const signature = this.#take(/@([a-z(){}]+)/y)?.[1];
    if (signature !== undefined) {
      if (!SIGNATURE.test(signature) || !isOneType(signature)) this.#fail('one type after @');
      return signature;
    }
    const start = this.#at;
    const word = this.#take(/[a-z][a-z0-9]+/y)?.[0];
    const letter = word === undefined ? undefined : words[word];
    if (letter === undefined) this.#at = start;
    return letter;
  }

  #boxed(depth: number): Variant {
    this.#expect('<');
    const inner = this.value(undefined, depth + 1);
    this.#expect('>');
    return variant('v', inner);
  }

  #array(wanted: string | undefined, depth: number): Variant {
    if (wanted !== undefined && !wanted.startsWith('a')) this.#fail(`a value of type ${wanted}`);
    let element = wanted?.slice(1);
    const values = this.#list('[', ']', () => {
      const { signature, value } = this.value(element, depth + 1);
      element ??= signature;
      return value;
    });
    if (element === undefined) this.#fail('a type before an empty array, such as @as []');
    if (element === 'y') return variant('ay', Uint8Array.from(values as number[]));
    return variant(`a${element}`, values);
  }

  #dictionary(wanted: string | undefined, depth: number): Variant {
    if (wanted !== undefined && !wanted.startsWith('a{')) this.#fail(`a value of type ${wanted}`);
    let [key, inner] = wanted === undefined ? [] : completeTypes(wanted.slice(2, -1));
    const entries = this.#list('{', '}', () => {
      const name = this.value(key, depth + 1);
      this.#expect(':');
      const content = this.value(inner, depth + 1);
      key ??= name.signature;
      inner ??= content.signature;
      return [name.value, content.value];
    });
    if (key === undefined || inner === undefined) this.#fail('a type before an empty dictionary');
    return variant(`a{${key}${inner}}`, entries);
  }

  #struct(wanted: string | undefined, depth: number): Variant {
    if (wanted !== undefined && !wanted.startsWith('(')) this.#fail(`a value of type ${wanted}`);
    const types = wanted === undefined ? undefined : completeTypes(wanted.slice(1, -1));
    const signatures: string[] = [];
    const values = this.#list('(', ')', () => {
      if (types !== undefined && types.length === signatures.length) this.#fail(`a value of type ${wanted}`);
      const { signature, value } = this.value(types?.[signatures.length], depth + 1);
      signatures.push(signature);
      return value;
    });
    if (signatures.length === 0 || (types !== undefined && types.length !== signatures.length)) {
      this.#fail(wanted === undefined ? 'a value in the brackets' : `a value of type ${wanted}`);
    }
    return variant(`(${signatures.join('')})`, values);
  }

  #list(open: string, close: string, one: () => BusValue): BusValue[] {
    this.#expect(open);
    const values: BusValue[] = [];
    while (!this.#peek(close)) {
      values.push(one());
      if (!this.#peek(close)) this.#expect(',');
    }
    this.#expect(close);
    return values;
  }

  #basic(wanted: string | undefined): Variant {
    const bytes = this.#take(/b('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")/sy)?.[1];
    if (bytes !== undefined) {
      if (wanted !== undefined && wanted !== 'ay') this.#fail(`a value of type ${wanted}`);
      // A byte string of GVariant ends with NUL.
      return variant('ay', Buffer.concat([Buffer.from(unquoted(bytes, true), 'latin1'), Buffer.alloc(1)]));
    }
    const quoted = this.#take(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/sy)?.[0];
    if (quoted !== undefined) {
      if (wanted !== undefined && !'sog'.includes(wanted)) this.#fail(`a value of type ${wanted}`);
      return variant(wanted ?? 's', unquoted(quoted, false));
    }
    const truth = this.#take(/(?:true|false)(?![A-Za-z0-9_])/y)?.[0];
    if (truth !== undefined) {
      if (wanted !== undefined && wanted !== 'b') this.#fail(`a value of type ${wanted}`);
      return variant('b', truth === 'true');
    }
    return this.#number(wanted);
  }

  #number(wanted: string | undefined): Variant {
    const text = this.#take(/[+-]?(?:0x[0-9a-fA-F]+|[0-9.]+(?:[eE][+-]?[0-9]+)?|inf|nan)/y)?.[0];
    if (text === undefined) this.#fail('a value');
    const isInteger = /^[+-]?(?:0x[0-9a-fA-F]+|[0-9]+)$/.test(text);
    const type = wanted ?? (isInteger ? 'i' : 'd');
    if (type === 'd') {
      const special = /^([+-]?)(inf|nan)$/.exec(text);
      const number = special === null ? Number(text) : special[2] === 'nan' ? Number.NaN : Infinity;
      if (special === null && Number.isNaN(number)) this.#fail('a number');
      return variant('d', special?.[1] === '-' ? -number : number);
    }
    const range = ranges[type];
    if (range === undefined || !isInteger) this.#fail(`a value of type ${type}`);
    const value = integer(text);
    if (value < range[0] || value > range[1])
      this.#fail(`a number from ${range[0]} to ${range[1]}, not ${text},`);
    return variant(type, type === 'y' ? Number(value) : value);
  }

  #peek(character: string): boolean {
    this.#space();
    return this.#text.startsWith(character, this.#at);
  }

  #expect(character: string): void {
    if (!this.#peek(character)) this.#fail(JSON.stringify(character));
    this.#at += character.length;
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    this.#space();
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }

  #space(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #fail(wanted: string): never {
    throw new SyntaxError(`${wanted} is expected at character ${this.#at + 1}`);
  }
}

function integer(text: string): bigint {
  const digits = text.replace(/^[+-]/, '');
  // A leading zero makes it octal, as in C.
  const value = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  return text.startsWith('-') ? -value : value;
}

/** The text in the quotes. Only byte strings have octal escapes, only strings have those of Unicode. */
function unquoted(quoted: string, isBytes: boolean): string {
  const pattern = isBytes ? /\\([0-7]{1,3})|\\(.)/gs : /\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)/gs;
  return quoted.slice(1, -1).replaceAll(pattern, (_whole, ...groups: unknown[]) => {
    const [first, second, third] = groups as (string | undefined)[];
    if (isBytes && first !== undefined) return String.fromCharCode(Number.parseInt(first, 8) & 0xff);
    const hexadecimal = isBytes ? undefined : (first ?? second);
    if (hexadecimal !== undefined)
      return String.fromCodePoint(Math.min(Number.parseInt(hexadecimal, 16), 0x10ffff));
    const character = (isBytes ? second : third) ?? '';
    return escapes[character] ?? character;
  });
}

function isOneType(signature: string): boolean {
  try {
    return completeTypes(signature).length === 1;
  } catch {
    return false;
  }
}
