/** The client of native/timed.c: one resident launcher per peer, so that a sample is spawn, run and wait, and nothing of Node. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { cache, root } from '../test/support/paths.ts';
import { must } from '../test/support/run.ts';

export const nativeFolder = join(cache, 'bench');

/** Compiles the two small programs where they are missing or older than their source. */
export async function buildNative(): Promise<void> {
  mkdirSync(nativeFolder, { recursive: true });
  for (const [source, program] of [
    ['timed.c', 'timed'],
    ['null-shim.c', 'containerd-shim-benchnull-v1'],
  ] as const) {
    const from = join(root, 'bench/native', source);
    const to = join(nativeFolder, program);
    if (existsSync(to) && statSync(to).mtimeMs > statSync(from).mtimeMs) continue;
    await must('gcc', ['-std=c17', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-o', to, from]);
  }
}

export interface Sample {
  nanoseconds: number;
  /** As waitpid(2) gives it. */
  status: number;
  maxRssKiB: number;
}

/** Runs commands one after the other inside one launcher process. */
export class Timed implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];

  /** `before` starts the launcher inside something else, e.g. unshare; its own cost is never in a sample. */
  constructor(env: NodeJS.ProcessEnv, before: readonly string[] = []) {
    const [command = '', ...args] = [...before, join(nativeFolder, 'timed')];
    this.#child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! });
    this.#lines.on('line', (line) => this.#waiting.shift()?.(line));
    this.#child.on('exit', () => {
      for (const answer of this.#waiting.splice(0)) answer('0 -1 0');
    });
  }

  /** argv[0] is an absolute path. */
  run(argv: readonly string[]): Promise<Sample> {
    return new Promise((resolve) => {
      this.#waiting.push((line) => {
        const [nanoseconds = 0, status = -1, maxRssKiB = 0] = line.split(' ').map(Number);
        resolve({ nanoseconds, status, maxRssKiB });
      });
      this.#child.stdin?.write(`${argv.join('\x1f')}\n`);
    });
  }

  [Symbol.dispose](): void {
    this.#child.stdin?.end();
    this.#lines.close();
  }
}
