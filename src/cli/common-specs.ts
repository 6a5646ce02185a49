/** Arguments and flags that several commands have. */
import type { ArgumentSpec, FlagSpec } from './grammar.ts';

export const id: ArgumentSpec = { name: 'ID', help: 'the name of the container' };

export const bundleFlag: FlagSpec = {
  name: 'bundle',
  short: 'b',
  kind: 'text',
  value: 'DIR',
  help: 'the folder with config.json and the root filesystem',
  fallback: 'the current folder',
};

export const pidFileFlag: FlagSpec = {
  name: 'pid-file',
  kind: 'text',
  value: 'FILE',
  help: 'write the process id of the container to FILE',
};

export const detachFlag: FlagSpec = {
  name: 'detach',
  short: 'd',
  kind: 'boolean',
  help: 'return when the program runs',
};

export const keepFlag: FlagSpec = {
  name: 'keep',
  kind: 'boolean',
  help: 'do not delete the container after its end',
};

export const configFlag: FlagSpec = {
  name: 'config',
  short: 'f',
  kind: 'text',
  value: 'FILE',
  help: 'what describes the container; a relative path begins in the bundle',
  fallback: 'config.json',
};

export const noSubreaperFlag: FlagSpec = {
  name: 'no-subreaper',
  kind: 'boolean',
  help: 'accepted for callers of runc; there is nothing to turn off',
};

export const formatFlag = (choices: readonly string[], fallback: string): FlagSpec => ({
  name: 'format',
  short: 'f',
  kind: 'choice',
  value: 'FORMAT',
  choices,
  help: 'how the answer looks',
  fallback,
});
