/** Completion of the command line, made from the tables of the grammar: commands, flags and their choices. Ids are asked of `wherry ps`. */
import { WherryError } from '../errors.ts';
import { type CommandSpec, type FlagSpec, globalFlags, helpFlag } from './grammar.ts';
import { groupSummary } from './help.ts';
import { commandsOf, shown } from './parse.ts';

const PROGRAM = 'wherry';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** invalid-argument for another shell. */
export function completionFor(shell: string): string {
  switch (shell) {
    case 'bash':
      return bash();
    case 'zsh':
      // zsh reads the same functions after bashcompinit (zshcompsys(1)).
      return `#compdef ${PROGRAM}\nautoload -U +X bashcompinit && bashcompinit\n${bash()}`;
    case 'fish':
      return fish();
    default:
      throw new WherryError('invalid-argument', `no completion for the shell "${shown(shell)}"`, {
        path: 'SHELL',
        hint: `there is one for ${shells.join(', ')}`,
      });
  }
}

/** Commands that take the names of containers. */
function takesIds({ arguments: given, name }: CommandSpec): boolean {
  return given[0]?.name === 'ID' && name !== 'create' && name !== 'run';
}

function words(flags: readonly FlagSpec[]): string {
  return [...flags, helpFlag]
    .flatMap(({ name, short }) => [`--${name}`, ...(short ? [`-${short}`] : [])])
    .join(' ');
}

function withValue(flags: readonly FlagSpec[]): FlagSpec[] {
  return flags.filter(({ kind }) => kind !== 'boolean');
}

function pattern({ name, short }: FlagSpec): string {
  return short === undefined ? `--${name}` : `--${name}|-${short}`;
}

function bash(): string {
  const commands = commandsOf(PROGRAM);
  const first = [...new Set(commands.map(({ name }) => name.split(' ')[0]))].join(' ');
  const valueFlags = withValue(globalFlags).map(pattern).join('|');
  const cases = commands.map((command) => {
    const choices = withValue(command.flags).map((flag) => {
      const answer =
        flag.choices === undefined ? '-f -- "$word"' : `-W '${flag.choices.join(' ')}' -- "$word"`;
      return `        ${pattern(flag)}) COMPREPLY=($(compgen ${answer})); return ;;`;
    });
    const ids = takesIds(command) ? '$(_wherry_ids)' : '';
    const rest = command.arguments.length === 0 || takesIds(command) ? '' : ' -f';
    return [
      `    '${command.name}')`,
      ...(choices.length > 0 ? ['      case "$previous" in', ...choices, '      esac'] : []),
      '      case "$word" in',
      `        -*) COMPREPLY=($(compgen -W '${words(command.flags)}' -- "$word")) ;;`,
      `        *) COMPREPLY=($(compgen${rest} -W "${ids}" -- "$word")) ;;`,
      '      esac ;;',
    ].join('\n');
  });
  const groups = [
    ...new Set(commands.filter(({ name }) => name.includes(' ')).map(({ name }) => name.split(' ')[0])),
  ];
  const groupCases = groups.map((group) => {
    const seconds = commands
      .filter(({ name }) => name.startsWith(`${group} `))
      .map(({ name }) => name.split(' ')[1]);
    return `    '${group}') COMPREPLY=($(compgen -W '${seconds.join(' ')}' -- "$word")) ;;`;
  });
  return `_wherry_ids() {
  ${PROGRAM} ps --format json 2>/dev/null | grep -o '"id":"[^"]*"' | cut -d'"' -f4
}
_wherry() {
  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" command='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      ${valueFlags}) [ -n "$command" ] || ((i++)) ;;
      -*) ;;
      *) case "$command" in
          '') command="\${COMP_WORDS[i]}" ;;
          ${groups.join('|')}) command="$command \${COMP_WORDS[i]}"; break ;;
          *) break ;;
        esac ;;
    esac
  done
  case "$command" in
    '') COMPREPLY=($(compgen -W '${first} ${words(globalFlags)}' -- "$word")) ;;
${groupCases.join('\n')}
${cases.join('\n')}
  esac
}
complete -o default -F _wherry ${PROGRAM}
`;
}

function fish(): string {
  const commands = commandsOf(PROGRAM);
  const lines = [
    `function __wherry_ids`,
    `    ${PROGRAM} ps --format json 2>/dev/null | string match -r -a '"id":"[^"]*"' | string split -f 4 '"'`,
    'end',
    `complete -c ${PROGRAM} -f`,
  ];
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const flagLine = (condition: string, { name, short, kind, help, choices }: FlagSpec) =>
    [
      `complete -c ${PROGRAM} -n ${quoted(condition)} -l ${name}`,
      ...(short === undefined ? [] : [`-s ${short}`]),
      ...(kind === 'boolean' ? [] : [choices === undefined ? '-r -F' : `-x -a ${quoted(choices.join(' '))}`]),
      `-d ${quoted(help)}`,
    ].join(' ');
  const seen = new Set<string>();
  for (const flag of globalFlags) lines.push(flagLine('__fish_use_subcommand', flag));
  for (const command of commands) {
    const [first = '', second] = command.name.split(' ');
    if (second === undefined || !seen.has(first)) {
      const says = second === undefined ? command.summary : groupSummary(first);
      lines.push(`complete -c ${PROGRAM} -n __fish_use_subcommand -a ${first} -d ${quoted(says)}`);
      seen.add(first);
    }
    const here = `__fish_seen_subcommand_from ${first}`;
    if (second !== undefined)
      lines.push(`complete -c ${PROGRAM} -n ${quoted(here)} -a ${second} -d ${quoted(command.summary)}`);
    if (takesIds(command)) lines.push(`complete -c ${PROGRAM} -n ${quoted(here)} -a '(__wherry_ids)'`);
    for (const flag of command.flags) lines.push(flagLine(here, flag));
  }
  return `${lines.join('\n')}\n`;
}
