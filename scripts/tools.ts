/** What the scripts share: running a tool with its output shown, and saying what is being done. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../test/support/paths.ts';

export const node = process.execPath;

/** A program that an npm package installed. */
export function packaged(name: string): string {
  return join(root, 'node_modules/.bin', name);
}

export interface ToolOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: Uint8Array;
  /** Milliseconds; SIGTERM after it, and the exit code is 124. */
  timeout?: number;
}

/** Runs a program with our terminal; returns its exit code. */
export function show(command: string, args: readonly string[], options: ToolOptions = {}): number {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if ((result.error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT') return 124;
  if (result.error !== undefined) throw new Error(`${command} cannot be started: ${result.error.message}`);
  return result.status ?? 1;
}

/** Runs a program silently; returns its output, or throws with it when the exit code is not 0. */
export function capture(command: string, args: readonly string[], options: ToolOptions = {}): Buffer {
  const result = spawnSync(command, args, { cwd: root, maxBuffer: 256 * 1024 * 1024, ...options });
  if (result.error !== undefined) throw new Error(`${command} cannot be started: ${result.error.message}`);
  if (result.status !== 0) {
    throw new Error(
      `${command} ${args.join(' ')}: exit code ${result.status}\n${result.stdout}${result.stderr}`,
    );
  }
  return result.stdout;
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function fail(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(1);
}
