/**
 * Where a process's standard streams go when a shim's caller names them: '' is /dev/null; a FIFO, a file or a logger's pipe
 * (shim contract section 6). Only decided here; compile/streams.ts opens them.
 */
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { WherryError } from '../errors.ts';
import type { StdioPaths } from './types.ts';

export type StreamTarget =
  | { type: 'null' }
  | { type: 'fifo'; path: string }
  | { type: 'file'; path: string; create: boolean };

/** A program that gets stdout and stderr as its descriptors 3 and 4, and 5 to say that it is ready. */
export interface LoggerPlan {
  /** Under which keel knows it. */
  token: bigint;
  path: string;
  args: readonly string[];
  env: readonly string[];
  /** binary-v2: its end without the ready byte is a failure. */
  mustReport: boolean;
}

export type StdioPlan =
  /** The caller's own descriptors 0-2. */
  | { kind: 'inherit' }
  | {
      kind: 'paths';
      stdin: StreamTarget;
      stdout: StreamTarget;
      stderr: StreamTarget;
      /** Takes stdout and stderr in place of their targets. */
      logger?: LoggerPlan;
      /** Others may hold the streams longer than the process: keel copies, so that it can end them. */
      copied?: boolean;
    }
  /** keel copies between the terminal's master and these. */
  | { kind: 'terminal'; stdin: StreamTarget; stdout: StreamTarget; logger?: LoggerPlan };

export interface StdioContext {
  /** Of the container or the exec, for the logger. */
  id: string;
  namespace: string;
  /** process.terminal */
  terminal: boolean;
  copied: boolean;
  nextToken(): bigint;
  /** Of `lookAtStreams`. */
  looks?: StreamLooks | undefined;
}

/** By path: what is there, or why that cannot be said. */
export type StreamLooks = ReadonlyMap<string, Promise<Stats>>;

/** Begins to look what the streams are, beside whatever else must be known before they can be planned. */
export function lookAtStreams({ stdin, stdout, stderr }: StdioPaths): StreamLooks {
  const looks = new Map<string, Promise<Stats>>();
  for (const path of [stdin, stdout, stderr]) {
    if (!path.startsWith('/') || looks.has(path)) continue;
    const look = stat(path);
    // Whoever plans the stream hears of the failure.
    look.catch(() => {});
    looks.set(path, look);
  }
  return looks;
}

interface Target {
  scheme: string;
  path: string;
  query: URLSearchParams;
}

/** invalid-argument with the stream's name as path: an unknown scheme, a path that is not there, what does not go together. */
export async function planStdio(stdio: StdioPaths, context: StdioContext): Promise<StdioPlan> {
  checkTerminal(stdio, context);
  const { looks } = context;
  const out = parseTarget('stdout', stdio.stdout);
  const logger = loggerOf(out, context);
  if (stdio.terminal) {
    const [stdin, stdout] = await Promise.all([
      planStream('stdin', stdio.stdin, looks),
      logger === undefined ? planStream('stdout', stdio.stdout, looks) : nothing,
    ]);
    for (const [field, { type }] of [
      ['stdin', stdin],
      ['stdout', stdout],
    ] as const) {
      if (type === 'file') throw invalid(field, 'a terminal is copied to FIFOs and loggers, not to files');
    }
    return { kind: 'terminal', stdin, stdout, ...(logger !== undefined && { logger }) };
  }
  if (logger !== undefined) {
    if (stdio.stderr !== '' && stdio.stderr !== stdio.stdout)
      throw invalid('stderr', 'a logger takes both streams: name the same URI as for stdout');
    const stdin = await planStream('stdin', stdio.stdin, looks);
    return { kind: 'paths', stdin, stdout: nothing, stderr: nothing, logger, copied: false };
  }
  const [stdin, stdout, stderr] = await Promise.all([
    planStream('stdin', stdio.stdin, looks),
    planStream('stdout', stdio.stdout, looks),
    // A file:// takes both streams.
    planStream('stderr', out?.scheme === 'file' && stdio.stderr === '' ? stdio.stdout : stdio.stderr, looks),
  ]);
  return { kind: 'paths', stdin, stdout, stderr, copied: context.copied };
}

const schemes = new Set(['fifo', 'file', 'binary', 'binary-v2']);

const nothing: StreamTarget = { type: 'null' };

function checkTerminal(stdio: StdioPaths, { terminal }: StdioContext): void {
  if (stdio.terminal === terminal) return;
  throw new WherryError(
    'invalid-argument',
    terminal
      ? 'terminal: process.terminal asks for a terminal, the request does not'
      : 'terminal: the request asks for a terminal, process.terminal does not',
    { path: 'terminal', hint: 'set both or neither' },
  );
}

function parseTarget(field: string, target: string): Target | undefined {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(target)?.[1]?.toLowerCase();
  if (scheme === undefined) return undefined;
  if (!schemes.has(scheme)) throw invalid(field, `unknown STDIO scheme ${scheme}`);
  try {
    const url = new URL(target);
    // A host would be a forgotten third slash: binary://usr/bin/logger.
    if (url.host !== '' || !url.pathname.startsWith('/')) throw new Error('no absolute path');
    return { scheme, path: decodeURIComponent(url.pathname), query: url.searchParams };
  } catch (error) {
    throw new WherryError('invalid-argument', `${field}: ${target} is no URI of an absolute path`, {
      path: field,
      hint: `write ${scheme}:///path`,
      cause: error,
    });
  }
}

/** Its arguments are each key of the query with its first value, its environment says whose output it gets and nothing else. */
function loggerOf(target: Target | undefined, context: StdioContext): LoggerPlan | undefined {
  if (target === undefined || (target.scheme !== 'binary' && target.scheme !== 'binary-v2')) return undefined;
  const args = [...new Set(target.query.keys())].flatMap((key) => [key, target.query.get(key) ?? '']);
  return {
    token: context.nextToken(),
    path: target.path,
    args,
    env: [`CONTAINER_ID=${context.id}`, `CONTAINER_NAMESPACE=${context.namespace}`],
    mustReport: target.scheme === 'binary-v2',
  };
}

export async function planStream(field: string, text: string, looks?: StreamLooks): Promise<StreamTarget> {
  if (text === '') return nothing;
  const target = parseTarget(field, text);
  if (target?.scheme === 'file') return { type: 'file', path: target.path, create: true };
  if (target !== undefined && target.scheme !== 'fifo')
    throw invalid(field, `${target.scheme}:// takes stdout and stderr: name it as stdout`);
  const path = target?.path ?? text;
  try {
    const found = await (looks?.get(path) ?? stat(path));
    return found.isFIFO() ? { type: 'fifo', path } : { type: 'file', path, create: false };
  } catch (error) {
    throw new WherryError(
      'invalid-argument',
      `${field}: ${path}: ${error instanceof Error ? error.message : String(error)}`,
      { path: field, cause: error },
    );
  }
}

function invalid(field: string, problem: string): WherryError {
  return new WherryError('invalid-argument', `${field}: ${problem}`, { path: field });
}
