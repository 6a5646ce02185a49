/**
 * argv → what to do, by the tables of the grammar. Flags are written as Go programs take them (`--flag value`,
 * `--flag=value`, `-f value`; one dash or two are the same), before or after the arguments, until `--`.
 */
import { WherryError } from '../errors.ts';
import { ownCommands } from './commands-own.ts';
import { peopleCommands } from './commands-people.ts';
import { runcCommands } from './commands-runc.ts';
import { FlagValues } from './flags.ts';
import { type CommandSpec, type FlagSpec, globalFlags, helpFlag } from './grammar.ts';
import { nearestOrBegun } from './suggest.ts';

export interface GlobalPart {
  globals: FlagValues;
  /** --help was given before a command. */
  help: boolean;
  /** The command and all that follows. */
  rest: readonly string[];
}

export type Invocation =
  | { kind: 'run'; command: CommandSpec; flags: FlagValues; args: readonly string[] }
  /** `group` is the first word of two-word commands. */
  | { kind: 'help'; command?: CommandSpec; group?: string }
  | { kind: 'unknown'; name: string; error: WherryError };

const lookups = new WeakMap<readonly FlagSpec[], ReadonlyMap<string, FlagSpec>>();

function lookup(flags: readonly FlagSpec[]): ReadonlyMap<string, FlagSpec> {
  let map = lookups.get(flags);
  if (map === undefined) {
    const entries: [string, FlagSpec][] = [];
    for (const flag of [helpFlag, ...flags]) {
      entries.push([flag.name, flag]);
      if (flag.short !== undefined) entries.push([flag.short, flag]);
    }
    map = new Map(entries);
    lookups.set(flags, map);
  }
  return map;
}

/** Commands that exist under the name by which the program was called. */
export function commandsOf(program: string): readonly CommandSpec[] {
  return program === 'runc' ? runcCommands : [...runcCommands, ...ownCommands, ...peopleCommands];
}

/** The name by which the program was called decides what exists: `runc` has only runc's commands. */
export function programName(argv: readonly string[]): string {
  const called = argv[0] ?? '';
  return called.slice(called.lastIndexOf('/') + 1) === 'runc' ? 'runc' : 'wherry';
}

interface Context {
  flags: readonly FlagSpec[];
  /** The command as it would be typed, for hints. */
  line: string;
  endAtArgument: boolean;
}

interface Parsed {
  values: FlagValues;
  args: string[];
  help: boolean;
}

export function parseGlobals(argv: readonly string[], program: string): GlobalPart {
  const parsed = parseFlags(argv.slice(1), { flags: globalFlags, line: program, endAtArgument: true });
  return { globals: parsed.values, help: parsed.help, rest: parsed.args };
}

export function parseCommand(rest: readonly string[], program: string): Invocation {
  const first = rest[0];
  if (first === undefined) return { kind: 'help' };
  const commands = commandsOf(program);
  if (first === 'help' || first === 'h') {
    return rest.length === 1 ? { kind: 'help' } : asHelp(parseCommand([...rest.slice(1), '--help'], program));
  }
  const direct = commands.find((command) => command.name === first);
  if (direct !== undefined) return parseFor(direct, rest.slice(1), program);
  const group = commands.filter((command) => command.name.startsWith(`${first} `));
  if (group.length > 0) return parseGroup(first, group, rest.slice(1), program);
  return { kind: 'unknown', name: first, error: unknownCommand(first, commands, program) };
}

function asHelp(invocation: Invocation): Invocation {
  return invocation.kind === 'run' ? { kind: 'help', command: invocation.command } : invocation;
}

function parseGroup(
  word: string,
  group: readonly CommandSpec[],
  rest: readonly string[],
  program: string,
): Invocation {
  const second = rest[0];
  if (second === undefined || second === '--help' || second === '-h') return { kind: 'help', group: word };
  const command = group.find((candidate) => candidate.name === `${word} ${second}`);
  if (command !== undefined) return parseFor(command, rest.slice(1), program);
  const name = `${word} ${second}`;
  return { kind: 'unknown', name, error: unknownCommand(name, group, program) };
}

function parseFor(command: CommandSpec, tokens: readonly string[], program: string): Invocation {
  const parsed = parseFlags(tokens, {
    flags: command.flags,
    line: `${program} ${command.name}`,
    endAtArgument: command.flagsEndAtArgument === true,
  });
  if (parsed.help) return { kind: 'help', command };
  checkCount(command, parsed.args, program);
  return { kind: 'run', command, flags: parsed.values, args: parsed.args };
}

function unknownCommand(name: string, commands: readonly CommandSpec[], program: string): WherryError {
  if (program === 'runc' && commandsOf('wherry').some((command) => command.name.split(' ')[0] === name)) {
    return new WherryError('invalid-argument', `unknown command "${name}"`, {
      hint: `it exists under the name wherry: wherry ${name}`,
    });
  }
  const words = commands.map((command) => command.name);
  const near =
    nearestOrBegun(name, words) ??
    nearestOrBegun(name, [...new Set(words.map((word) => word.split(' ')[0]!))]);
  const hint =
    near === undefined ? `${program} --help lists the commands` : `did you mean "${program} ${near}"?`;
  return new WherryError('invalid-argument', `unknown command "${name}"`, { hint });
}

/** `-it` as `-i -t`: one dash before letters that all are flags without a value, but for the last; undefined otherwise. */
function separated(token: string, known: ReadonlyMap<string, FlagSpec>): string[] | undefined {
  if (!/^-[a-z]{2,}$/i.test(token) || known.has(token.slice(1))) return undefined;
  const letters = [...token.slice(1)];
  const allKnown = letters.every((letter, index) => {
    const flag = known.get(letter);
    return flag !== undefined && (flag.kind === 'boolean' || index === letters.length - 1);
  });
  return allKnown ? letters.map((letter) => `-${letter}`) : undefined;
}

function parseFlags(given: readonly string[], context: Context): Parsed {
  const known = lookup(context.flags);
  const tokens = [...given];
  const values = new FlagValues();
  const args: string[] = [];
  let help = false;
  for (let i = 0; i < tokens.length; i++) {
    const letters = separated(tokens[i]!, known);
    if (letters !== undefined) tokens.splice(i, 1, ...letters);
    const token = tokens[i]!;
    if (token === '--') {
      args.push(...tokens.slice(i + 1));
      break;
    }
    if (token.length < 2 || token[0] !== '-') {
      if (context.endAtArgument) {
        args.push(...tokens.slice(i));
        break;
      }
      args.push(token);
      continue;
    }
    const body = token.slice(token[1] === '-' ? 2 : 1);
    const equals = body.indexOf('=');
    const name = equals < 0 ? body : body.slice(0, equals);
    const flag = known.get(name);
    if (flag === undefined) throw unknownFlag(token, name, context);
    const written = token.slice(0, token.length - body.length + name.length);
    if (flag.kind === 'boolean') {
      const value = equals < 0 ? true : parseBoolean(written, body.slice(equals + 1), context);
      if (flag === helpFlag) help ||= value;
      else values.set(flag.name, value);
      continue;
    }
    let value: string;
    if (equals >= 0) value = body.slice(equals + 1);
    else if (i + 1 < tokens.length) value = tokens[++i]!;
    else {
      throw usage(`flag needs an argument: ${written}`, written, `write ${written} ${flag.value ?? 'VALUE'}`);
    }
    assign(values, flag, written, value);
  }
  return { values, args, help };
}

function assign(values: FlagValues, flag: FlagSpec, written: string, value: string): void {
  switch (flag.kind) {
    case 'list':
      values.append(flag.name, value);
      return;
    case 'integer':
      values.set(flag.name, parseInteger(flag, written, value));
      return;
    case 'choice':
      // As with texts, an empty value is as good as none.
      if (value !== '' && !flag.choices?.includes(value)) {
        throw invalidValue(written, value, `expected ${either(flag.choices ?? [])}`);
      }
      values.set(flag.name, value);
      return;
    default:
      values.set(flag.name, value);
  }
}

function parseInteger(flag: FlagSpec, written: string, value: string): number {
  const min = flag.min ?? Number.MIN_SAFE_INTEGER;
  const max = flag.max ?? Number.MAX_SAFE_INTEGER;
  const number = /^[+-]?\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= min && number <= max)) {
    throw invalidValue(written, value, `expected a whole number from ${min} to ${max}`);
  }
  return number;
}

const booleans = new Map<string, boolean>([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
]);

function parseBoolean(written: string, value: string, context: Context): boolean {
  const known = booleans.get(value);
  if (known === undefined) {
    throw usage(
      `invalid boolean value "${shown(value)}" for ${written}`,
      written,
      `${context.line}: write true or false`,
    );
  }
  return known;
}

/** A flag's value is none that it takes; `expected` says what it takes. */
export function invalidValue(written: string, value: string, expected: string): WherryError {
  return usage(`invalid value "${shown(value)}" for flag ${written}: ${expected}`, written);
}

function unknownFlag(token: string, name: string, context: Context): WherryError {
  const long = [helpFlag, ...context.flags].map((flag) => flag.name);
  const near = name.length > 1 ? nearestOrBegun(name, long) : undefined;
  let hint = `"${context.line} --help" lists the flags`;
  if (near !== undefined) hint = `did you mean --${near}?`;
  else if (context.flags !== globalFlags && lookup(globalFlags).has(name)) {
    hint = `--${name} goes before the command`;
  } else if (/^\d+$/.test(name)) hint = 'write a signal without a dash';
  return usage(`flag provided but not defined: ${shown(token.split('=')[0]!)}`, token, hint);
}

function checkCount(command: CommandSpec, args: readonly string[], program: string): void {
  const least = command.arguments.filter((argument) => argument.optional !== true).length;
  const most = command.arguments.at(-1)?.rest === true ? Number.POSITIVE_INFINITY : command.arguments.length;
  if (args.length >= least && args.length <= most) return;
  // The words are runc's; scripts look for them.
  let count = `exactly ${least}`;
  if (least !== most) count = args.length < least ? `a minimum of ${least}` : `a maximum of ${most}`;
  const hint =
    command.name === 'run' && args.length > most && program !== 'runc'
      ? `to run a command without a bundle: ${program} launch -- ${shown(args.join(' '))}`
      : `usage: ${usageLine(command, program)}`;
  throw new WherryError(
    'invalid-argument',
    `"${command.name}" requires ${count} argument(s), found ${args.length}`,
    {
      hint,
    },
  );
}

/** `wherry kill [flags] ID [SIGNAL]` */
export function usageLine(command: CommandSpec, program: string): string {
  const words = command.arguments.map((argument) => {
    const { name: word, rest, optional } = argument;
    // A command has arguments of its own; of all else there may be several.
    const more = word === 'COMMAND' ? 'ARGUMENT' : word;
    const name = rest === true ? `${word} ${optional && word !== 'COMMAND' ? '…' : `[${more}…]`}` : word;
    return argument.optional === true ? `[${name}]` : name;
  });
  const flags = command.flags.length > 0 ? ['[flags]'] : [];
  const dashes = command.flagsEndAtArgument === true && command.arguments[0]?.rest === true ? ['--'] : [];
  return [program, command.name, ...flags, ...dashes, ...words].join(' ');
}

function usage(message: string, path: string, hint?: string): WherryError {
  return new WherryError('invalid-argument', message, { path: shown(path.split('=')[0]!), hint });
}

function either(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

/** Text of the caller as it may stand in a message: one line of bounded length. */
export function shown(text: string): string {
  const line = text.replace(/[\u0000-\u001f\u007f]/g, '?');
  return line.length <= 200 ? line : `${line.slice(0, 200)}…`;
}
