/** --help and docs/cli.md, from the tables of the grammar. */
import { type CommandSpec, type FlagSpec, globalFlags, helpFlag } from './grammar.ts';
import { commandsOf, usageLine } from './parse.ts';

const WIDTH = 100;

/** What people need before anything else, in the order in which they need it. */
const firstCommands = ['launch', 'ps', 'logs', 'attach', 'exec', 'stop', 'wait', 'rm', 'stats', 'inspect'];

/** The overview: `wherry --help`, or of one group (`wherry daemon --help`). */
export function renderOverview(program: string, group?: string): string {
  const all = commandsOf(program);
  const commands = group === undefined ? all : all.filter(({ name }) => name.startsWith(`${group} `));
  const lines = [
    group === undefined ? `${program} runs containers.` : `${program} ${group}: ${groupSummary(group)}.`,
    '',
    `Usage: ${program} ${group === undefined ? '[global flags] COMMAND' : `${group} COMMAND`} [flags] [arguments]`,
    '',
  ];
  if (group === undefined && program !== 'runc') {
    const first = firstCommands.map((name) => commands.find((command) => command.name === name)!);
    const others = commands.filter((command) => !command.runc && !first.includes(command));
    lines.push('To run and look after containers:', ...commandRows(first), '');
    lines.push(
      "Of bundles, with runc's flags and answers:",
      ...commandRows(commands.filter((command) => command.runc && !first.includes(command))),
      '',
    );
    lines.push('More:', ...commandRows(others), '');
    lines.push(
      'To begin with:',
      ...rows([
        [`${program} launch -t -- sh`, "a shell in a view of this machine's root filesystem"],
        [`${program} launch -d --name web -- PROGRAM`, `then ${program} logs -f web, ${program} stop web`],
      ]),
      '',
    );
  } else {
    lines.push('Commands:', ...commandRows(commands), '');
  }
  if (group === undefined)
    lines.push('Global flags, before the command:', ...flagRows([...globalFlags, helpFlag]), '');
  lines.push(`"${program} ${group === undefined ? '' : `${group} `}COMMAND --help" says more.`);
  return `${lines.join('\n')}\n`;
}

export function groupSummary(group: string): string {
  return group === 'mounts' ? 'commands for mounts of running containers' : 'commands for the daemon';
}

/** `wherry kill --help` */
export function renderCommand(command: CommandSpec, program: string): string {
  const lines = [
    `${program} ${command.name}: ${command.summary}`,
    '',
    `Usage: ${usageLine(command, program)}`,
  ];
  if (command.description !== undefined) lines.push('', ...wrap(command.description.join(' '), WIDTH));
  if (command.arguments.length > 0) {
    lines.push('', 'Arguments:', ...rows(command.arguments.map(({ name, help }) => [name, help])));
  }
  lines.push('', 'Flags:', ...flagRows([...command.flags, helpFlag]));
  if (command.examples.length > 0) {
    const examples = command.examples.map(({ line, says }): [string, string] => [`${program} ${line}`, says]);
    lines.push('', 'Examples:', ...rows(examples));
  }
  return `${lines.join('\n')}\n`;
}

function commandRows(commands: readonly CommandSpec[]): string[] {
  return rows(commands.map(({ name, summary }) => [name, summary]));
}

function flagRows(flags: readonly FlagSpec[]): string[] {
  return rows(flags.map((flag) => [flagHead(flag), flagText(flag)]));
}

function flagHead({ name, short, value }: FlagSpec): string {
  const head = short === undefined ? `    --${name}` : `-${short}, --${name}`;
  return value === undefined ? head : `${head} ${value}`;
}

/** What a flag does, with its choices and its default. */
export function flagText({ help, choices, fallback }: FlagSpec): string {
  const notes = [
    ...(choices === undefined ? [] : [choices.join(' | ')]),
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
  ];
  return notes.length === 0 ? help : `${help} (${notes.join('; ')})`;
}

/** Two columns, the second wrapped. A long first cell gets a line of its own. */
function rows(cells: readonly (readonly [string, string])[]): string[] {
  const left = Math.min(30, Math.max(...cells.map(([head]) => head.length)));
  const indent = ' '.repeat(left + 4);
  return cells.flatMap(([head, text]) => {
    const wrapped = wrap(text, WIDTH - indent.length);
    if (head.length > left) return [`  ${head}`, ...wrapped.map((line) => indent + line)];
    return wrapped.map((line, index) => (index === 0 ? `  ${head.padEnd(left)}  ${line}` : indent + line));
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The text of docs/cli.md. */
export function renderCliDocs(): string {
  const program = 'wherry';
  const block = (text: string) => ['```', text.trimEnd(), '```', ''];
  const command = (spec: CommandSpec) => [
    `### ${program} ${spec.name}`,
    '',
    ...block(renderCommand(spec, program)),
  ];
  const commands = commandsOf(program);
  return [
    '# The command line',
    '',
    'This page is made from the tables in `src/cli` (`renderCliDocs` in `src/cli/help.ts`); a test checks that it is current.',
    '',
    ...block(renderOverview(program)),
    '## For callers of runc',
    '',
    '- Called by the name `runc` (a symbolic link is enough), only the commands that runc has exist.',
    '- Flags may stand before or after the arguments; `--flag value`, `--flag=value` and one dash in place of two are the same;',
    '  an empty value is as good as none; `--` ends the flags.',
    '- Exit status: 1 for errors, 3 for an unknown command. `run` gives the status of the program, 128 + n when',
    '  signal n ended it. `launch` keeps 125, 126 and 127 for its own errors, as docker does.',
    '- An error is one line on standard error. With `--log FILE` it is also appended to FILE: as',
    '  `{"level":"error","msg":"…","time":"…"}` with `--log-format json`, else as `time="…" level=error msg="…"`. When a command',
    '  fails, its error is the only line that it adds to FILE.',
    '- `--version` begins with `wherry version`, under the name `runc` too: no release of runc is claimed.',
    '',
    '## Commands',
    '',
    ...commands.flatMap(command),
  ]
    .join('\n')
    .replace(/\n+$/, '\n');
}
