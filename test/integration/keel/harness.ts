/**
 * Runs the real keel and the real client; the test itself speaks wherryd's side of the link. keel starts `relay.mjs` as its
 * wherryd, and that hands the link on to the test.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  encodeFrame,
  FieldReader,
  type Frame,
  FrameReader,
  str,
  u32,
  u64,
} from '../../../src/daemon/frames.ts';
import { FromKeel, ToKeel } from '../../../src/daemon/wire.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const native = join(root, 'native');
const relay = fileURLToPath(new URL('relay.mjs', import.meta.url));

/** Folders with keel, player and wherry: as they are installed, and with sanitizers. */
export const builds = { plain: join(native, 'build'), sanitized: join(native, 'build/asan') } as const;
export type Build = keyof typeof builds;

const built = new Set<Build>();

/** Builds once; suites that run at the same time wait for each other. */
export function build(which: Build): string {
  if (!built.has(which)) {
    mkdirSync(builds.plain, { recursive: true });
    const target = which === 'plain' ? 'all' : 'asan';
    const made = spawnSync('flock', [join(builds.plain, '.lock'), 'make', '-s', '-C', native, target], {
      encoding: 'utf8',
    });
    if (made.status !== 0) throw new Error(`make ${target}: ${made.stderr}`);
    built.add(which);
  }
  return builds[which];
}

/** Waits until `look` gives something, an empty text being nothing yet; the only clock is a limit after which the test has failed. */
export async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const end = performance.now() + 15_000;
  for (;;) {
    const found = look();
    if (found !== undefined && found !== false && found !== '') return found;
    if (performance.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}

/** False for zombies, too. */
export function alive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** Frames in the order in which they came, to be waited for by type and id. */
class Inbox {
  readonly #frames: Frame[] = [];

  add(frame: Frame): void {
    this.#frames.push({ ...frame, payload: Buffer.from(frame.payload) });
  }

  /** Takes the first frame of the type, and of the id if one is given. */
  take(type: number, id?: bigint): Promise<Frame> {
    return until(`frame ${type} ${id ?? ''}`, () => this.takeNow(type, id));
  }

  takeNow(type: number, id?: bigint): Frame | undefined {
    const at = this.#frames.findIndex((one) => one.type === type && (id === undefined || one.id === id));
    return at < 0 ? undefined : this.#frames.splice(at, 1)[0];
  }

  get types(): number[] {
    return this.#frames.map((frame) => frame.type);
  }
}

/** wherryd's side of the link. */
export class Link {
  readonly inbox = new Inbox();
  readonly socket: Socket;
  #request = 0n;
  closed = false;
  /** Sees each frame first; true keeps it out of the inbox. */
  onFrame: ((frame: Frame) => boolean) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    const reader = new FrameReader((frame) => {
      if (this.onFrame?.(frame) !== true) this.inbox.add(frame);
    });
    socket.on('data', (bytes: Buffer) => reader.push(bytes));
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  send(type: number, id: bigint, ...parts: Uint8Array[]): void {
    this.socket.write(encodeFrame(type, id, ...parts));
  }

  /** An order with a REPLY: its result and what follows it. */
  async order(type: number, ...parts: Uint8Array[]): Promise<{ result: number; body: FieldReader }> {
    const id = ++this.#request;
    this.send(type, id, ...parts);
    const body = new FieldReader((await this.inbox.take(FromKeel.REPLY, id)).payload);
    return { result: body.i32(), body };
  }

  async status(): Promise<{ pid: number; registered: number; players: number; connections: number }> {
    const { body } = await this.order(ToKeel.STATUS);
    return { pid: body.u32(), registered: body.u32(), players: body.u32(), connections: body.u32() };
  }

  /** The registered process of a token. */
  async registered(token: bigint): Promise<{ pid: number; inode: bigint; startTime: bigint }> {
    const fields = new FieldReader((await this.inbox.take(FromKeel.REGISTERED, token)).payload);
    return { pid: fields.u32(), inode: fields.u64(), startTime: fields.u64() };
  }

  async exited(token: bigint): Promise<{ status: number; known: boolean; time: bigint }> {
    const fields = new FieldReader((await this.inbox.take(FromKeel.EXIT, token)).payload);
    return { status: fields.i32(), known: fields.u8() !== 0, time: fields.u64() };
  }

  async played(token: bigint): Promise<{ status: number; page: Buffer }> {
    const fields = new FieldReader((await this.inbox.take(FromKeel.PLAYED, token)).payload);
    return { status: fields.i32(), page: fields.rest() };
  }

  spawn(token: bigint, tape: Uint8Array, deadline = 0): void {
    this.send(ToKeel.SPAWN, token, u32(deadline), u32(0), tape);
  }

  listen(id: bigint, path: string): Promise<{ result: number }> {
    return this.order(ToKeel.LISTEN, u64(id), str(path));
  }
}

export interface StartOptions {
  env?: Record<string, string>;
  /** Arguments of keel before `--`. */
  flags?: string[];
  /** False: wherryd's link is not answered. */
  ready?: boolean;
}

/** A run folder, a keel in it and the test as its wherryd. */
export class Harbour implements AsyncDisposable {
  readonly bin: string;
  readonly folder: string;
  readonly runDir: string;
  keel: ChildProcess | undefined;
  log = '';
  readonly #server: Server;
  readonly #links: Link[] = [];
  readonly #children: ChildProcess[] = [];

  private constructor(which: Build) {
    this.bin = build(which);
    this.folder = mkdtempSync('/tmp/wherry-t');
    this.runDir = join(this.folder, 'run');
    this.#server = createServer((socket) => this.#links.push(new Link(socket)));
  }

  static async open(which: Build): Promise<Harbour> {
    const harbour = new Harbour(which);
    harbour.#server.listen(join(harbour.folder, 'relay.sock'));
    await once(harbour.#server, 'listening');
    return harbour;
  }

  /** With a running keel and wherryd's answer given. */
  static async start(which: Build, options: StartOptions = {}): Promise<{ harbour: Harbour; link: Link }> {
    const harbour = await Harbour.open(which);
    harbour.startKeel(options);
    return { harbour, link: await harbour.wherryd(options.ready) };
  }

  get env(): Record<string, string> {
    return {
      PATH: process.env['PATH'] ?? '',
      WHERRY_RUN_DIR: this.runDir,
      WHERRY_LIBEXEC: join(this.folder, 'libexec'),
      // keel is not dumpable: LeakSanitizer cannot look into it.
      ASAN_OPTIONS: 'detect_leaks=0',
      ...(process.env['WHERRY_TEST_MARK'] === undefined
        ? {}
        : { WHERRY_TEST_MARK: process.env['WHERRY_TEST_MARK'] }),
    };
  }

  get command(): string[] {
    return [process.execPath, relay, join(this.folder, 'relay.sock')];
  }

  startKeel(options: StartOptions = {}): ChildProcess {
    const keel = spawn(
      join(this.bin, 'keel'),
      [
        '--run-dir',
        this.runDir,
        '--player',
        join(this.bin, 'player'),
        ...(options.flags ?? []),
        '--',
        ...this.command,
      ],
      { env: { ...this.env, ...options.env }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    keel.stderr?.on('data', (bytes: Buffer) => {
      this.log += bytes.toString();
    });
    this.keel = keel;
    this.#children.push(keel);
    return keel;
  }

  /** A libexec folder from which the client can start keel with the relay as wherryd. */
  installLibexec(): void {
    const libexec = join(this.folder, 'libexec');
    mkdirSync(libexec);
    for (const name of ['keel', 'player']) symlinkSync(join(this.bin, name), join(libexec, name));
    const script = `#!/bin/sh\nexec ${this.command.join(' ')}\n`;
    spawnSync('sh', ['-c', `cat > ${libexec}/wherryd && chmod 755 ${libexec}/wherryd`], { input: script });
  }

  /** The next wherryd that keel starts; READY is sent unless told otherwise. */
  async wherryd(ready = true): Promise<Link> {
    const link = await until('keel starts wherryd', () => this.#links.shift());
    await until('HELLO', () => link.inbox.types.includes(FromKeel.HELLO));
    if (ready) link.send(ToKeel.READY, 0n, str('test'));
    return link;
  }

  /** What the relay was started with. */
  started(): {
    env: Record<string, string>;
    descriptors: Record<string, string>;
    status: string;
    cwd: string;
    pid: number;
  } {
    return JSON.parse(readFileSync(join(this.folder, 'relay.sock.json'), 'utf8'));
  }

  /** A raw connection to a socket below the run folder (or an absolute path). */
  async connect(path = 'keel.sock'): Promise<{ socket: Socket; received: () => Buffer }> {
    const socket = connect(path.startsWith('/') ? path : join(this.runDir, path));
    let received = Buffer.alloc(0);
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
    });
    socket.on('error', () => {});
    await once(socket, 'connect');
    return { socket, received: () => received };
  }

  /** Starts the client. */
  client(
    args: string[],
    options: { stdio?: 'pipe'; env?: Record<string, string>; name?: string } = {},
  ): Client {
    const child = spawn(join(this.bin, options.name ?? 'wherry'), args, {
      env: { ...this.env, ...options.env },
      stdio: 'pipe',
    });
    this.#children.push(child);
    return new Client(child);
  }

  async keelEnd(): Promise<number> {
    const keel = this.keel!;
    return until('keel ends', () => keel.exitCode ?? undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const link of this.#links) link.socket.destroy();
    this.#server.close();
    const pid = existsSync(join(this.folder, 'relay.sock.json')) ? this.started().pid : 0;
    await until('wherryd ends', () => pid === 0 || !alive(pid));
    // A wherryd that was just being started may write its file while this folder is removed.
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }
}

/** A running client and what it has printed. */
export class Client {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  #closed = false;

  constructor(child: ChildProcess) {
    this.child = child;
    child.on('close', () => {
      this.#closed = true;
    });
    child.stdin?.on('error', () => {});
    child.stdout?.on('data', (bytes: Buffer) => {
      this.stdout += bytes.toString();
    });
    child.stderr?.on('data', (bytes: Buffer) => {
      this.stderr += bytes.toString();
    });
  }

  /** Exit code, or 128 + signal; its output is complete then. */
  async end(): Promise<number> {
    await until('the client ends', () => this.#closed);
    const { exitCode, signalCode } = this.child;
    return exitCode ?? 128 + (signalCode === 'SIGKILL' ? 9 : signalCode === 'SIGTERM' ? 15 : 1);
  }
}
