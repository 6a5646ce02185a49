/** A terminal to drive programs in, as a person would: tmux, from Debian's package, with a server of its own. */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { unpackedDebs } from './debs.ts';
import { temporaryFolder } from './paths.ts';
import { eventually, must, run } from './run.ts';

const packages = ['tmux', 'libevent-core-2.1-7', 'libutempter0', 'libjemalloc2', 'libsystemd0', 'libtinfo6'];

export class Tmux implements AsyncDisposable {
  readonly #program: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #socket: string;

  private constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.#program = join(folder, 'usr/bin/tmux');
    const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
    const libraries = ['usr/lib', 'lib'].map((part) => join(folder, part, triplet)).join(':');
    this.#env = { ...env, TERM: 'xterm', LC_ALL: 'C.UTF-8', LD_LIBRARY_PATH: libraries };
    this.#socket = join(temporaryFolder(), 'tmux');
  }

  /** A window of 80 columns and 24 rows in which `command` (a shell's words) runs. */
  static async start(command: string, env: NodeJS.ProcessEnv): Promise<Tmux> {
    const tmux = new Tmux(await unpackedDebs('bookworm', packages), env);
    // The libraries are tmux's own; what runs in it takes the machine's.
    await tmux.#call('new-session', '-d', '-x', '80', '-y', '24', `unset LD_LIBRARY_PATH; exec ${command}`);
    return tmux;
  }

  async #call(...args: string[]): Promise<string> {
    const { stdout } = await must(this.#program, ['-S', this.#socket, '-f', '/dev/null', ...args], {
      env: this.#env,
    });
    return stdout;
  }

  /** Keys by tmux's names: C-c, Enter, or text. */
  async type(...keys: string[]): Promise<void> {
    await this.#call('send-keys', ...keys);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#call('resize-window', '-x', String(columns), '-y', String(rows));
  }

  /** `escapes`: with those of colours. */
  screen({ escapes = false } = {}): Promise<string> {
    return this.#call('capture-pane', '-p', ...(escapes ? ['-e'] : []));
  }

  /** Waits until the screen shows it. */
  async shows(what: RegExp): Promise<string> {
    let last = '';
    try {
      return await eventually(
        `the terminal shows ${what}`,
        async () => {
          last = await this.screen();
          return what.test(last) ? last : undefined;
        },
        30_000,
      );
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : String(error)}; it shows:\n${last}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(this.#program, ['-S', this.#socket, 'kill-server'], { env: this.#env });
    rmSync(dirname(this.#socket), { recursive: true, force: true });
  }
}
