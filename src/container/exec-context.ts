/**
 * What execs need of the container's config.json: its process (without what was filled in) and its namespaces, kept in state.json, and its
 * seccomp filter as the kernel takes it, kept beside it. The bundle's own config.json may be another one by then.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WherryError } from '../errors.ts';
import { boundary } from '../fault.ts';
import { formatJson, parseJson } from '../oci/json.ts';
import type { Linux, LinuxNamespace, Process, Spec } from '../oci/types.ts';
import { listens } from './compile/seccomp-listener.ts';

export interface ExecContext {
  process: Process;
  namespaces: readonly LinuxNamespace[];
  personality?: Linux['personality'];
  memoryPolicy?: Linux['memoryPolicy'];
  /** Where a listener of the filter goes. */
  supervisor?: Supervisor | undefined;
  seccomp: { filter: Uint8Array; flags: number } | undefined;
  noNewKeyring: boolean;
}

export interface Supervisor {
  listenerPath: string;
  listenerMetadata?: string | undefined;
}

interface StoredContext {
  process: Process;
  namespaces: LinuxNamespace[];
  personality?: Linux['personality'];
  memoryPolicy?: Linux['memoryPolicy'];
  /** Where a listener of the filter goes. */
  supervisor?: Supervisor | undefined;
  seccompFlags?: number;
  noNewKeyring: boolean;
}

const FILTER = 'seccomp.bpf';
/** What lies of it in a state directory. */
export const execContextFiles: readonly string[] = [FILTER];

export function execContextOf(
  spec: Spec,
  seccomp: ExecContext['seccomp'],
  noNewKeyring: boolean,
): ExecContext {
  const { namespaces = [], personality, memoryPolicy } = spec.linux ?? {};
  const { listenerPath, listenerMetadata } = spec.linux?.seccomp ?? {};
  const supervisor =
    listens(seccomp) && listenerPath !== undefined ? { listenerPath, listenerMetadata } : undefined;
  return { process: spec.process, namespaces, personality, memoryPolicy, supervisor, seccomp, noNewKeyring };
}

/** The part of it that state.json keeps: JSON with integers that JavaScript has no numbers for. */
export function execContextText(context: ExecContext): string {
  const { seccomp, process, personality, memoryPolicy, supervisor, noNewKeyring } = context;
  const stored: StoredContext = {
    process,
    namespaces: [...context.namespaces],
    ...(personality !== undefined && { personality }),
    ...(memoryPolicy !== undefined && { memoryPolicy }),
    ...(supervisor !== undefined && { supervisor }),
    ...(seccomp !== undefined && { seccompFlags: seccomp.flags }),
    noNewKeyring,
  };
  return formatJson(stored, '');
}

/** Where there is one; written while the create tape plays, so it costs its caller nothing. */
export async function saveFilter(dir: string, { seccomp }: ExecContext): Promise<void> {
  if (seccomp === undefined) return;
  boundary('filter');
  await writeFile(join(dir, FILTER), seccomp.filter, { mode: 0o600 });
  boundary('filter written');
}

/** `text` is execContextText's. internal when it or the filter is gone or damaged: then no exec is possible in this container. */
export async function loadExecContext(dir: string, text: string): Promise<ExecContext> {
  try {
    const { process, namespaces, personality, memoryPolicy, supervisor, seccompFlags, noNewKeyring } =
      parseJson(Buffer.from(text), 'state.json') as StoredContext;
    const filter = seccompFlags === undefined ? undefined : await readFile(join(dir, FILTER));
    const seccomp = filter === undefined ? undefined : { filter, flags: seccompFlags ?? 0 };
    return { process, namespaces, personality, memoryPolicy, supervisor, seccomp, noNewKeyring };
  } catch (error) {
    throw new WherryError('internal', `cannot read what an exec needs from ${dir}: ${String(error)}`, {
      hint: 'the state of this container is damaged: it can run on, but nothing can be executed in it',
      cause: error,
    });
  }
}

/** The init is the first process of a pid namespace: its end is everybody's. */
export function hasOwnPidNamespace({ namespaces }: ExecContext): boolean {
  return namespaces.some(({ type, path }) => type === 'pid' && (path ?? '') === '');
}
