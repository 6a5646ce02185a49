/** What a command's code gets to see of one call. */
import { userInfo } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { folderName } from '../container/folder-name.ts';
import type { ContainerKey, OperationContext } from '../container/types.ts';
import type { CliDependencies } from './dependencies.ts';
import type { FlagValues } from './flags.ts';
import type { ClientSession } from './session.ts';

/** Containers of the command line live beside those of local gRPC callers that name no namespace. */
const NAMESPACE = 'default';

export interface CommandContext {
  session: ClientSession;
  deps: CliDependencies;
  /** `wherry` or `runc`: the name by which the program was called. */
  program: string;
  globals: FlagValues;
  flags: FlagValues;
  args: readonly string[];
  operation: OperationContext;
  print(text: string): void;
  /** A line for the log, or standard error where there is none. */
  warn(text: string): void;
}

/** A command: resolves with the exit status. */
export type CommandCode = (context: CommandContext) => Promise<number>;

/** wherryd serves one user, who owns all that it runs; `#uid` where the user has no name. */
export function ownerName(): string {
  try {
    return userInfo().username;
  } catch {
    return `#${process.getuid?.() ?? 0}`;
  }
}

/** A path of the caller as an absolute one. */
export function callerPath(context: CommandContext, path: string): string {
  return isAbsolute(path) ? resolve(path) : resolve(context.session.request.cwd, path);
}

/** --root as an absolute path; undefined where it is not given. */
export function rootOf(context: CommandContext): string | undefined {
  const root = context.globals.text('root');
  return root === undefined ? undefined : callerPath(context, root);
}

export function keyOf(context: CommandContext, id: string): ContainerKey {
  return { scope: rootOf(context) ?? '', namespace: NAMESPACE, id };
}

/** Where the state of a container goes when --root says so. */
export function stateDirOf(context: CommandContext, id: string): string | undefined {
  const root = rootOf(context);
  return root === undefined ? undefined : join(root, folderName(id));
}
