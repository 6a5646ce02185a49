/**
 * The client of native/timed.c and native/asked.c: one resident launcher per peer, so that a sample is spawn, run and wait, or a
 * call's request and answer, and nothing of Node.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { Request } from '../shim/gen/ttrpc/ttrpc.ts';
import { cache, root } from '../test/support/paths.ts';
import { must } from '../test/support/run.ts';

export const nativeFolder = join(cache, 'bench');

/** Compiles the small programs where they are missing or older than their source. */
export async function buildNative(): Promise<void> {
  mkdirSync(nativeFolder, { recursive: true });
  for (const [source, program] of [
    ['timed.c', 'timed'],
    ['asked.c', 'asked'],
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

/** A native program that does one line after the other and says how long it took. */
class Resident implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(env: NodeJS.ProcessEnv, argv: readonly string[]) {
    const [command = '', ...args] = argv;
    this.#child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! });
    this.#lines.on('line', (line) => this.#waiting.shift()?.(line));
    this.#child.on('exit', () => {
      for (const answer of this.#waiting.splice(0)) answer('0 -1 0');
    });
  }

  protected line(words: readonly string[]): Promise<Sample> {
    return new Promise((resolve) => {
      this.#waiting.push((line) => {
        const [nanoseconds = 0, status = -1, maxRssKiB = 0] = line.split(' ').map(Number);
        resolve({ nanoseconds, status, maxRssKiB });
      });
      this.#child.stdin?.write(`${words.join('\x1f')}\n`);
    });
  }

  [Symbol.dispose](): void {
    this.#child.stdin?.end();
    this.#lines.close();
  }
}

/** Runs commands one after the other inside one launcher process. */
export class Timed extends Resident {
  /** `before` starts the launcher inside something else, e.g. unshare; its own cost is never in a sample. */
  constructor(env: NodeJS.ProcessEnv, before: readonly string[] = []) {
    super(env, [...before, join(nativeFolder, 'timed')]);
  }

  /** argv[0] is an absolute path. */
  run(argv: readonly string[]): Promise<Sample> {
    return this.line(argv);
  }
}

/** Makes calls over connections that are opened by the first; of a sample, status is 0 or 256, and maxRssKiB means nothing. */
export class Asked extends Resident {
  constructor() {
    super({}, [join(nativeFolder, 'asked')]);
  }

  ttrpc(path: string, service: string, method: string, request: Uint8Array): Promise<Sample> {
    const message = Request.fromPartial({ service, method, payload: Buffer.from(request) });
    return this.line(['ttrpc', path, Buffer.from(Request.encode(message).finish()).toString('hex')]);
  }

  grpc(path: string, service: string, method: string, request: Uint8Array): Promise<Sample> {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(request.length, 1);
    const headers = {
      ':method': 'POST',
      ':scheme': 'http',
      ':path': `/${service}/${method}`,
      ':authority': 'localhost',
      te: 'trailers',
      'content-type': 'application/grpc',
    };
    const block = Object.entries(headers).flatMap((words) => [Buffer.of(0), ...words.map(hpackString)]);
    return this.line([
      'grpc',
      path,
      Buffer.concat(block).toString('hex'),
      Buffer.concat([prefix, request]).toString('hex'),
    ]);
  }
}

/** Plain, of at most 126 bytes (RFC 7541, 5.2). */
function hpackString(text: string): Buffer {
  return Buffer.concat([Buffer.of(text.length), Buffer.from(text)]);
}
