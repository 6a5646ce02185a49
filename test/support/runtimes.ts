/** Command-line runtimes by one face, so that one test asks Wherry and its oracle, runc, the same thing. */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { peers } from './debs.ts';
import { temporaryFolder } from './paths.ts';
import { type RunOptions, type RunResult, run } from './run.ts';
import { Wherry } from './wherry.ts';

export interface RuntimeTool extends AsyncDisposable {
  readonly name: 'wherry' | 'runc';
  /** A private folder for bundles and files. */
  readonly folder: string;
  /** The program and what comes before its command. */
  readonly command: string;
  readonly globals: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  run(args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

export async function openTool(name: RuntimeTool['name']): Promise<RuntimeTool> {
  if (name === 'wherry') return new WherryTool();
  return new RuncTool((await peers()).runc);
}

class WherryTool implements RuntimeTool {
  readonly name = 'wherry';
  readonly #wherry = new Wherry();
  readonly folder = this.#wherry.folder;
  readonly command = this.#wherry.command;
  readonly globals = [];
  readonly env = this.#wherry.env;

  run(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.#wherry.run(args, options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#wherry[Symbol.asyncDispose]();
  }
}

class RuncTool implements RuntimeTool {
  readonly name = 'runc';
  readonly folder = temporaryFolder();
  readonly command: string;
  readonly globals = ['--root', join(this.folder, 'root')];
  readonly env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };

  constructor(command: string) {
    this.command = command;
    mkdirSync(join(this.folder, 'root'));
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.command, [...this.globals, ...args], { env: this.env, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const list = await this.run(['list', '-q']);
    for (const id of list.stdout.split('\n').filter((line) => line !== ''))
      await this.run(['delete', '--force', id]);
    if (existsSync(this.folder)) rmSync(this.folder, { recursive: true });
  }
}
