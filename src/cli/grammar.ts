/**
 * The shape of the command line: commands and their flags, as data. Parsing, --help, docs/cli.md and the suggestions for
 * mistyped words all come from the tables in commands-runc.ts and commands-own.ts; nothing else knows a flag's name and type.
 */

export type FlagKind = 'boolean' | 'text' | 'list' | 'integer' | 'choice';

export interface FlagSpec {
  /** Long name without dashes. */
  name: string;
  /** One letter. */
  short?: string;
  kind: FlagKind;
  /** What stands for the value in the help: DIR, FILE, N. */
  value?: string;
  help: string;
  /** `integer` only: inclusive bounds. */
  min?: number;
  max?: number;
  /** `choice` only. */
  choices?: readonly string[];
  /** Shown in the help; commands apply it themselves. */
  fallback?: string;
}

export interface ArgumentSpec {
  name: string;
  help: string;
  optional?: boolean;
  /** Takes all that follow; only the last argument may. */
  rest?: boolean;
}

export interface Example {
  line: string;
  says: string;
}

export interface CommandSpec {
  /** One word, or two ("daemon stop"). */
  name: string;
  summary: string;
  /** More lines for --help. */
  description?: readonly string[];
  flags: readonly FlagSpec[];
  arguments: readonly ArgumentSpec[];
  examples: readonly Example[];
  /** runc has it too: only these exist when the program is called as `runc`. */
  runc: boolean;
  /** The first argument ends the flags, so that the command's own flags are left alone. */
  flagsEndAtArgument?: boolean;
}

export const globalFlags: readonly FlagSpec[] = [
  {
    name: 'root',
    kind: 'text',
    value: 'DIR',
    help: 'keep the state of containers in DIR; each DIR has its own containers',
    fallback: "the run folder's containers/local/default",
  },
  {
    name: 'log',
    kind: 'text',
    value: 'FILE',
    help: 'append errors and warnings to FILE; the plain text of an error still goes to standard error',
  },
  {
    name: 'log-format',
    kind: 'choice',
    value: 'FORMAT',
    choices: ['text', 'json'],
    help: 'how lines of the log look',
    fallback: 'text',
  },
  {
    name: 'log-level',
    kind: 'choice',
    value: 'LEVEL',
    choices: ['error', 'warning', 'debug'],
    help: 'accepted for callers of crun; the detail is in the log of wherryd',
    fallback: 'warning',
  },
  {
    name: 'debug',
    kind: 'boolean',
    help: 'accepted for callers of runc; the detail is in the log of wherryd',
  },
  {
    name: 'systemd-cgroup',
    kind: 'boolean',
    help: 'let systemd make the cgroup; linux.cgroupsPath is then slice:prefix:name',
  },
  {
    name: 'cgroup-manager',
    kind: 'choice',
    value: 'MANAGER',
    choices: ['cgroupfs', 'systemd', 'disabled'],
    help: "who makes the cgroup; systemd is --systemd-cgroup; disabled: nobody, the container stays in its caller's",
    fallback: 'cgroupfs',
  },
  {
    name: 'rootless',
    kind: 'choice',
    value: 'WHEN',
    choices: ['true', 'false', 'auto'],
    help: 'accepted for callers of runc; Wherry finds out by itself',
    fallback: 'auto',
  },
  {
    name: 'criu',
    kind: 'text',
    value: 'PATH',
    help: 'the program criu, for checkpoint and restore',
    fallback: 'found on PATH',
  },
  { name: 'version', short: 'v', kind: 'boolean', help: 'print the version and the builds of all parts' },
];

/** Every command has it. */
export const helpFlag: FlagSpec = { name: 'help', short: 'h', kind: 'boolean', help: 'print this help' };
