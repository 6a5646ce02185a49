/** Builds the real player and plays tapes with it. */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { WherryError } from '../../../src/errors.ts';
import type { AssembledTape } from '../../../src/tape/assemble.ts';
import { PAGE_BYTES } from '../../../src/tape/format.ts';
import { type Page, playError, readPage } from '../../../src/tape/outcome.ts';

const native = resolve(import.meta.dirname, '../../../native');
const sanitized = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'];

/** A folder with the player as it is shipped, the same under sanitizers, and the fuzzer. Remove it with `remove`. */
export class Build {
  readonly folder = mkdtempSync(join(tmpdir(), 'wherry-player-'));
  readonly player = join(this.folder, 'player');

  constructor() {
    execFileSync('make', ['-s', '-C', native, `OUT=${this.folder}`, this.player], { stdio: 'pipe' });
  }

  sanitizedPlayer(): string {
    return this.compile('player-sanitized', [join(native, 'player.c'), join(native, 'play.c')]);
  }

  fuzzer(): string {
    return this.compile('fuzz', [resolve(native, '../test/native/fuzz_tape.c'), join(native, 'play.c')]);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }

  private compile(name: string, sources: readonly string[]): string {
    const out = join(this.folder, name);
    const flags = ['-std=c17', '-Wall', '-Wextra', '-Werror', ...sanitized];
    execFileSync('gcc', [...flags, '-o', out, ...sources], { stdio: 'pipe' });
    return out;
  }
}

export interface Played {
  waitStatus: number;
  page: Page;
  error: WherryError | undefined;
  stdout: string;
  stderr: string;
}

export interface PlayOptions {
  /** Called with the player's pid once it runs. */
  started?: (pid: number) => void;
  /** Instead of what the tape was assembled to. */
  image?: Uint8Array;
}

/** Resolves when the player and everything that holds its standard streams has ended. */
export async function play(player: string, tape: AssembledTape, options: PlayOptions = {}): Promise<Played> {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-tape-'));
  const path = join(folder, 'tape');
  const fd = openSync(path, 'wx+', 0o600);
  try {
    writeSync(fd, options.image ?? tape.image, 0, undefined, PAGE_BYTES);
    const child = spawn(player, [], { stdio: ['ignore', 'pipe', 'pipe', fd], env: {} });
    const output = [child.stdout!, child.stderr!].map(async (stream) => {
      let text = '';
      for await (const chunk of stream) text += String(chunk);
      return text;
    });
    if (child.pid !== undefined) options.started?.(child.pid);
    const waitStatus = await new Promise<number>((done, failed) => {
      child.on('error', failed);
      child.on('exit', (code, signal) =>
        done(signal === null ? (code ?? 0) << 8 : constants.signals[signal]),
      );
    });
    const [stdout = '', stderr = ''] = await Promise.all(output);
    const page = Buffer.alloc(PAGE_BYTES);
    readSync(fd, page, 0, PAGE_BYTES, 0);
    return { waitStatus, page: readPage(page), error: playError(tape, { waitStatus, page }), stdout, stderr };
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}
