/** Manual pages (man(7)), from the same tables as --help and docs/cli.md. */
import { type CommandSpec, type FlagSpec, globalFlags, helpFlag } from './grammar.ts';
import { flagText } from './help.ts';
import { commandsOf, usageLine } from './parse.ts';

const PROGRAM = 'wherry';

/** File name → text, of every page: wherry.1 and one a command. */
export function manPages(version: string): Map<string, string> {
  const commands = commandsOf(PROGRAM);
  const pages = new Map([['wherry.1', overview(commands, version)]]);
  for (const command of commands) pages.set(`${nameOf(command)}.1`, page(command, version));
  return pages;
}

function nameOf({ name }: CommandSpec): string {
  return `${PROGRAM}-${name.replaceAll(' ', '-')}`;
}

function overview(commands: readonly CommandSpec[], version: string): string {
  return [
    head(PROGRAM, version),
    '.SH NAME',
    `${PROGRAM} \\- runs containers`,
    '.SH SYNOPSIS',
    `.B ${PROGRAM}`,
    '[global flags] COMMAND [flags] [arguments]',
    '.SH COMMANDS',
    ...commands.flatMap((command) => ['.TP', `.BR ${roff(nameOf(command))} (1)`, roff(command.summary)]),
    '.SH GLOBAL FLAGS',
    ...flags([...globalFlags, helpFlag]),
    '.SH EXIT STATUS',
    '1 for errors, 3 for an unknown command;',
    '.B run',
    'and',
    '.B launch',
    'give the status of the program, 128 + n when signal n ended it.',
    '',
  ].join('\n');
}

function page(command: CommandSpec, version: string): string {
  return [
    head(nameOf(command), version),
    '.SH NAME',
    `${roff(nameOf(command))} \\- ${roff(command.summary)}`,
    '.SH SYNOPSIS',
    roff(usageLine(command, PROGRAM)),
    ...(command.description === undefined ? [] : ['.SH DESCRIPTION', ...command.description.map(roff)]),
    ...(command.arguments.length === 0 ? [] : ['.SH ARGUMENTS']),
    ...command.arguments.flatMap(({ name, help }) => ['.TP', `.I ${roff(name)}`, roff(help)]),
    '.SH FLAGS',
    ...flags([...command.flags, helpFlag]),
    ...(command.examples.length === 0 ? [] : ['.SH EXAMPLES']),
    ...command.examples.flatMap(({ line, says }) => ['.TP', `.B ${roff(`${PROGRAM} ${line}`)}`, roff(says)]),
    '.SH SEE ALSO',
    '.BR wherry (1)',
    '',
  ].join('\n');
}

function head(title: string, version: string): string {
  return `.TH ${title.toUpperCase()} 1 "" "Wherry ${version}" "Wherry"`;
}

function flags(list: readonly FlagSpec[]): string[] {
  return list.flatMap((flag) => {
    const { name, short, value } = flag;
    const names = short === undefined ? `\\-\\-${name}` : `\\-${short}, \\-\\-${name}`;
    return ['.TP', `.B ${names}${value === undefined ? '' : ` ${roff(value)}`}`, roff(flagText(flag))];
  });
}

/** A text as one input line: a backslash, and a control character at its beginning, would mean something. */
function roff(text: string): string {
  const line = text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/\s*\n\s*/g, ' ');
  return /^[.']/.test(line) ? `\\&${line}` : line;
}
