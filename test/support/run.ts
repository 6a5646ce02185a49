/** Runs a program to its end with a time limit; nothing of it can be left behind unseen. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** Limits that nobody gives are so many times as long: an emulated machine starts a program in seconds (scripts/guest-payload.ts). */
const patience = Number(process.env['WHERRY_TEST_PATIENCE'] ?? 1);

export interface RunOptions {
  /** Milliseconds; the program is killed after it and the promise rejects. Default 30,000, times the patience. */
  timeout?: number;
  cwd?: string;
  /** Replaces the whole environment when given. */
  env?: NodeJS.ProcessEnv;
  /** Standard input; default: /dev/null. */
  input?: string | Uint8Array;
  /** Runs in a session of its own, so that no signal of ours reaches its children. */
  detached?: boolean;
  /** How the output becomes text; latin1 keeps every byte. Default: utf8. */
  encoding?: BufferEncoding;
  /** Output goes to this file instead of to us: for programs whose children keep it after their end. */
  outputFile?: string;
}

export interface RunResult {
  /** 0-255, or 128 + signal, as a shell would say. */
  code: number;
  stdout: string;
  stderr: string;
}

const signalNumbers: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGPIPE: 13, SIGTERM: 15 };

/**
 * Resolves when the program has ended and its output is closed. Rejects when it cannot be started, when the time limit passes, or
 * when another process still holds its output 5 s after its end: a daemon that keeps its starter's stdout is a bug.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const line = [command, ...args].join(' ');
  return new Promise((resolve, reject) => {
    const file = options.outputFile === undefined ? undefined : openSync(options.outputFile, 'a');
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      detached: options.detached ?? false,
      stdio: [options.input === undefined ? 'ignore' : 'pipe', file ?? 'pipe', file ?? 'pipe'],
    });
    if (file !== undefined) closeSync(file);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input);
    const text = (): string => `${Buffer.concat(stdout)}${Buffer.concat(stderr)}`.trim();
    let late: NodeJS.Timeout | undefined;
    const limit = options.timeout ?? 30_000 * patience;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      destroy(child);
      reject(new Error(`no end within ${limit} ms: ${line}\n${text()}`));
    }, limit);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('exit', () => {
      late = setTimeout(() => {
        clearTimeout(timer);
        destroy(child);
        reject(new Error(`its output is still held open by another process: ${line}\n${text()}`));
      }, 5_000 * patience);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      clearTimeout(late);
      resolve({
        code: code ?? 128 + (signalNumbers[signal ?? ''] ?? 0),
        stdout: Buffer.concat(stdout).toString(options.encoding),
        stderr: Buffer.concat(stderr).toString(options.encoding),
      });
    });
  });
}

/** As run, but rejects when the program's exit code is not 0. */
export async function must(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await run(command, args, options);
  if (result.code !== 0) {
    throw new Error(
      `exit code ${result.code}: ${[command, ...args].join(' ')}\n${result.stdout}${result.stderr}`,
    );
  }
  return result;
}

/** Tries until the check gives a value (an empty text is none yet), at most `limit` ms; rejects with the last error or the sentence. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | Promise<T | undefined>,
  limit = 20_000 * patience,
): Promise<T> {
  const end = performance.now() + limit;
  let last: unknown;
  for (;;) {
    try {
      const value = await check();
      if (value !== undefined && value !== false && value !== '') return value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) throw new Error(`not within ${limit} ms: ${what}`, { cause: last });
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

/** What a program writes, to either stream, until it ends. */
export function follow(child: { stdout: Readable; stderr: Readable | null } & ChildProcess): {
  text: string;
  code: number | null | undefined;
} {
  const seen = { text: '', code: undefined as number | null | undefined };
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (bytes: Buffer) => {
      seen.text += bytes.toString();
    });
  child.on('close', (code) => {
    seen.code = code;
  });
  return seen;
}

/** SIGTERM, then SIGKILL after `grace` ms; resolves when the process has ended. Only for processes that we started. */
export async function stop(child: ChildProcess, grace = 10_000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), grace);
  await ended;
  clearTimeout(timer);
}

function destroy(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
}
