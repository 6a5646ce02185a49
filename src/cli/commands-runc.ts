/** The table of runc's commands; flags are runc's (https://github.com/opencontainers/runc/tree/main/man). */
import { checkpointCommands } from './commands-checkpoint.ts';
import { processCommands } from './commands-process.ts';
import {
  bundleFlag,
  configFlag,
  detachFlag,
  formatFlag,
  id,
  keepFlag,
  noSubreaperFlag,
  pidFileFlag,
} from './common-specs.ts';
import type { ArgumentSpec, CommandSpec, FlagSpec } from './grammar.ts';

const newId: ArgumentSpec = {
  name: 'ID',
  help: 'a name for the container: letters, digits and _ + , - . ; not used by another container',
};

const createFlags: readonly FlagSpec[] = [
  bundleFlag,
  configFlag,
  {
    name: 'console-socket',
    kind: 'text',
    value: 'SOCKET',
    help: 'send the terminal to this unix socket; needed where the container has a terminal and nobody stays attached',
  },
  {
    name: 'pidfd-socket',
    kind: 'text',
    value: 'SOCKET',
    help: "send a pidfd of the container's init to this unix socket",
  },
  pidFileFlag,
  {
    name: 'no-pivot',
    kind: 'boolean',
    help: 'enter the root filesystem without pivot_root, for hosts that run from a ramdisk',
  },
  { name: 'no-new-keyring', kind: 'boolean', help: 'keep the session keyring of the caller' },
  {
    name: 'preserve-fds',
    kind: 'integer',
    value: 'N',
    min: 0,
    max: 65_536,
    help: 'hand N more descriptors to the container, beside the standard streams and those of LISTEN_FDS',
    fallback: '0',
  },
];

const regexFlag: FlagSpec = {
  name: 'regex',
  short: 'r',
  kind: 'boolean',
  help: 'ID is an extended regular expression (regex(7)), for every container of this root whose id matches',
};

export const runcCommands: readonly CommandSpec[] = [
  {
    name: 'create',
    summary: 'create a container; its program waits for "start"',
    description: [
      'Everything but the program itself is set up when the command returns. The container belongs to the caller:',
      'its parent is the process that called this command, or the next subreaper above it.',
    ],
    flags: [...createFlags, noSubreaperFlag],
    arguments: [newId],
    examples: [
      { line: 'create --bundle web --pid-file web.pid web1', says: 'create web1 from the bundle in ./web' },
      { line: 'start web1', says: 'then let its program run' },
    ],
    runc: true,
  },
  {
    name: 'start',
    summary: 'let the program of a created container run',
    description: [
      'With NOTIFY_SOCKET in the environment, here and at create, it returns when the program is ready',
      '(docs/services.md).',
    ],
    flags: [],
    arguments: [id],
    examples: [{ line: 'start web1', says: 'returns as soon as the program runs' }],
    runc: true,
  },
  {
    name: 'run',
    summary: 'create and start a container, wait for its end, delete it',
    description: [
      'The exit status is that of the program; 128 + n when signal n ended it; 1 when the container could not run.',
      'Signals that the command gets go to the container.',
      'With NOTIFY_SOCKET in the environment its listener hears when the program is ready, and --detach',
      'returns then (docs/services.md).',
    ],
    flags: [...createFlags, detachFlag, keepFlag, noSubreaperFlag],
    arguments: [newId],
    examples: [
      { line: 'run web1', says: 'the bundle is the current folder' },
      { line: 'run -d --pid-file web.pid -b web web1', says: 'leave it running' },
    ],
    runc: true,
  },
  {
    name: 'state',
    summary: 'print the state of a container as JSON',
    flags: [],
    arguments: [id],
    examples: [{ line: 'state web1', says: 'the object of the OCI runtime specification' }],
    runc: true,
  },
  {
    name: 'kill',
    summary: 'send a signal to a container',
    flags: [
      {
        name: 'all',
        short: 'a',
        kind: 'boolean',
        help: 'to every process of the container; one that has stopped already is no error',
      },
      regexFlag,
    ],
    arguments: [
      id,
      {
        name: 'SIGNAL',
        optional: true,
        help: 'name or number: KILL, SIGKILL, 9, RTMIN+1; TERM where it is left out',
      },
    ],
    examples: [
      { line: 'kill web1', says: 'ask the program to end' },
      { line: 'kill web1 KILL', says: 'end it at once' },
      { line: "kill --regex '^web' KILL", says: 'web1, web2 and all others whose ids begin so' },
    ],
    runc: true,
  },
  {
    name: 'delete',
    summary: 'remove a container that has stopped, or was never started',
    flags: [
      {
        name: 'force',
        short: 'f',
        kind: 'boolean',
        help: 'kill a running one first; a container that does not exist is no error',
      },
      regexFlag,
    ],
    arguments: [id],
    examples: [{ line: 'delete -f web1', says: 'whatever its state is' }],
    runc: true,
  },
  {
    name: 'list',
    summary: 'list the containers of a root',
    flags: [
      formatFlag(['table', 'json'], 'table'),
      { name: 'quiet', short: 'q', kind: 'boolean', help: 'print ids only' },
    ],
    arguments: [],
    examples: [
      { line: 'list', says: 'a table for people' },
      { line: 'list --format json', says: 'an array of state objects; null when there are none' },
    ],
    runc: true,
  },
  {
    name: 'spec',
    summary: 'write a config.json to start from',
    description: ['An existing config.json is never overwritten.'],
    flags: [
      {
        name: 'bundle',
        short: 'b',
        kind: 'text',
        value: 'DIR',
        help: 'the folder to write to',
        fallback: 'the current folder',
      },
      {
        name: 'file',
        short: 'f',
        kind: 'text',
        value: 'FILE',
        help: 'what to write; a relative path begins in the folder',
        fallback: 'config.json',
      },
      { name: 'rootless', kind: 'boolean', help: 'for a container that needs no root' },
    ],
    arguments: [],
    examples: [{ line: 'spec -b web', says: 'writes web/config.json' }],
    runc: true,
  },
  ...processCommands,
  ...checkpointCommands,
];
