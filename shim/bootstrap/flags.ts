/** The shim's command line, in the syntax of Go's flag package: one or two dashes, value after `=` or as the next word. */
import { WherryError } from '../../src/errors.ts';

export interface ShimFlags {
  namespace: string;
  id: string;
  address: string;
  publishBinary: string;
  bundle: string;
  socket: string;
  debugSocket: string;
  debug: boolean;
  version: boolean;
  info: boolean;
  /** `start`, `delete`, or '' for none. */
  action: string;
}

const valued = {
  namespace: 'namespace',
  id: 'id',
  address: 'address',
  'publish-binary': 'publishBinary',
  bundle: 'bundle',
  socket: 'socket',
  'debug-socket': 'debugSocket',
} as const;

const switches = { debug: 'debug', v: 'version', version: 'version', info: 'info' } as const;

const booleans: Readonly<Record<string, boolean>> = {
  '1': true,
  t: true,
  T: true,
  true: true,
  TRUE: true,
  True: true,
  '0': false,
  f: false,
  F: false,
  false: false,
  FALSE: false,
  False: false,
};

/** `words` without the program's name. invalid-argument naming the flag. */
export function parseShimFlags(words: readonly string[]): ShimFlags {
  const flags: ShimFlags = {
    namespace: '',
    id: '',
    address: '',
    publishBinary: '',
    bundle: '',
    socket: '',
    debugSocket: '',
    debug: false,
    version: false,
    info: false,
    action: '',
  };
  let index = 0;
  for (; index < words.length; index++) {
    const word = words[index] ?? '';
    if (word === '--') {
      index++;
      break;
    }
    if (!word.startsWith('-') || word === '-') break;
    const text = word.replace(/^--?/, '');
    const equals = text.indexOf('=');
    const name = equals < 0 ? text : text.slice(0, equals);
    const given = equals < 0 ? undefined : text.slice(equals + 1);
    if (name === '' || name.startsWith('-')) throw bad(word, `bad flag syntax: ${word}`);
    if (Object.hasOwn(switches, name)) {
      const value = given === undefined ? true : booleans[given];
      if (value === undefined)
        throw bad(`-${name}`, `invalid boolean value ${JSON.stringify(given)} for -${name}`);
      flags[switches[name as keyof typeof switches]] = value;
    } else if (Object.hasOwn(valued, name)) {
      const value = given ?? words[++index];
      if (value === undefined) throw bad(`-${name}`, `flag needs an argument: -${name}`);
      flags[valued[name as keyof typeof valued]] = value;
    } else {
      throw bad(`-${name}`, `flag provided but not defined: -${name}`);
    }
  }
  flags.action = words[index] ?? '';
  return flags;
}

function bad(path: string, message: string): WherryError {
  return new WherryError('invalid-argument', message, { path });
}
