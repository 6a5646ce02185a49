/** The table of commands for people: what runc leaves to the programs above it. */
import { formatFlag, id } from './common-specs.ts';
import type { ArgumentSpec, CommandSpec } from './grammar.ts';

const ids: ArgumentSpec = { name: 'ID', help: 'the names of the containers', rest: true };
/** Without a letter: -f means another thing in some of them. */
const { short: _, ...format } = formatFlag(['text', 'json'], 'text');

export const peopleCommands: readonly CommandSpec[] = [
  {
    name: 'logs',
    summary: 'print what a detached container has written',
    description: [
      'The last 4 to 8 MiB of each container that was launched with --detach are kept until it is deleted.',
    ],
    flags: [
      { name: 'follow', short: 'f', kind: 'boolean', help: 'go on until the container has ended' },
      { name: 'tail', short: 'n', kind: 'integer', value: 'N', min: 0, help: 'the last N lines only' },
      { name: 'timestamps', short: 't', kind: 'boolean', help: 'begin each line with its time' },
      { ...format, help: 'json: an object with time, stream and text a line' },
    ],
    arguments: [id],
    examples: [
      { line: 'logs web', says: 'standard output and error on those of the command' },
      { line: 'logs -f -n 10 web', says: 'the last ten lines, then what comes' },
    ],
    runc: false,
  },
  {
    name: 'attach',
    summary: 'connect this terminal to a detached container',
    description: [
      'What the container writes from now on is printed; what is typed goes to its standard input where it has one (launch -d with',
      '-i or -t). Ctrl-P Ctrl-Q goes away again and leaves it running; from a container without a terminal Ctrl-C does. The exit status',
      'is that of the container, 0 after Ctrl-P Ctrl-Q.',
    ],
    flags: [
      { name: 'no-stdin', kind: 'boolean', help: 'only watch' },
      {
        name: 'detach-keys',
        kind: 'text',
        value: 'KEYS',
        help: 'what goes away: letters and ctrl-LETTER, with commas between them',
        fallback: 'ctrl-p,ctrl-q',
      },
    ],
    arguments: [id],
    examples: [{ line: 'attach shell', says: 'as if it had never been left' }],
    runc: false,
  },
  {
    name: 'stop',
    summary: 'end containers: SIGTERM, and SIGKILL when that does not help',
    description: [
      'A program that has no handler for SIGTERM is killed at once: as the first of its pid namespace it would never notice.',
    ],
    flags: [
      {
        name: 'time',
        short: 't',
        kind: 'integer',
        value: 'SECONDS',
        min: 0,
        max: 86_400,
        help: 'how long to wait',
        fallback: '10',
      },
    ],
    arguments: [ids],
    examples: [{ line: 'stop -t 30 web', says: 'half a minute for its last requests' }],
    runc: false,
  },
  {
    name: 'wait',
    summary: 'wait for the end of containers and print their exit statuses',
    flags: [{ ...format, help: 'json: an object with id and status a container' }],
    arguments: [ids],
    examples: [{ line: 'wait job', says: '0 where all went well; 137 after SIGKILL' }],
    runc: false,
  },
  {
    name: 'stats',
    summary: 'print what containers use, again and again',
    description: ['All running containers of this daemon where none is named, those of containerd included.'],
    flags: [
      { name: 'no-stream', kind: 'boolean', help: 'once' },
      { name: 'interval', kind: 'text', value: 'TIME', help: 'between two samples', fallback: '1s' },
      { ...format, help: 'json: an object a container and sample' },
    ],
    arguments: [{ ...ids, optional: true }],
    examples: [{ line: 'stats --no-stream', says: 'processor, memory and processes of all' }],
    runc: false,
  },
  {
    name: 'rm',
    summary: 'delete containers that have ended, with what they wrote',
    flags: [{ name: 'force', short: 'f', kind: 'boolean', help: 'kill those that run' }],
    arguments: [ids],
    examples: [{ line: 'rm -f web', says: 'whatever it is doing' }],
    runc: false,
  },
  {
    name: 'inspect',
    summary: 'print all that is known of containers, as JSON',
    flags: [formatFlag(['json'], 'json')],
    arguments: [ids],
    examples: [{ line: 'inspect web', says: 'state, process, cgroups, streams, end' }],
    runc: false,
  },
  {
    name: 'completion',
    summary: 'print the completion of the command line for a shell',
    flags: [],
    arguments: [{ name: 'SHELL', help: 'bash, zsh or fish' }],
    examples: [
      { line: 'completion bash', says: 'to be kept as /etc/bash_completion.d/wherry' },
      { line: 'completion fish', says: 'to be kept as ~/.config/fish/completions/wherry.fish' },
    ],
    runc: false,
  },
];
