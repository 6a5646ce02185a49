/** The shim's services with real unix sockets around them: what keel does is done here by a listening server. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KeelPort } from '../../../../shim/bootstrap/groups.ts';
import type { StatsSource } from '../../../../shim/grpc/stats-stream.ts';
import type { Logger } from '../../../../shim/log.ts';
import {
  createShimServices,
  type ShimServices,
  type ShimServicesDependencies,
} from '../../../../shim/main.ts';
import { encodeFrame, FrameCutter } from '../../../../shim/ttrpc/frame.ts';
import type { ClientSession } from '../../../../src/cli/session.ts';
import { WherryError } from '../../../../src/errors.ts';
import { MemoryRuntime } from './runtime.ts';

/** Listens for real, cuts frames, hands them on. */
export class SocketKeel implements KeelPort {
  boot = 7n;
  services: ShimServices | undefined;
  readonly servers = new Map<bigint, { server: Server; path: string }>();
  readonly sockets = new Set<Socket>();
  private nextListener = 1n;
  private nextConnection = 1n;

  async listen(path: string): Promise<bigint> {
    const id = this.nextListener++;
    const server = createServer((socket) => this.accept(id, socket));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new WherryError('already-exists', error.message, { errno: -(error.errno ?? 0) })),
    );
    server.listen(path, resolve);
    await promise;
    this.servers.set(id, { server, path });
    return id;
  }

  async unlisten(id: bigint): Promise<void> {
    this.servers.get(id)?.server.close();
    this.servers.delete(id);
  }

  paths(): string[] {
    return [...this.servers.values()].map(({ path }) => path);
  }

  close(): void {
    for (const id of [...this.servers.keys()]) void this.unlisten(id);
    for (const socket of this.sockets) socket.destroy();
  }

  private accept(listenerId: bigint, socket: Socket): void {
    this.sockets.add(socket);
    const served = this.services?.onTtrpcConnection({
      id: this.nextConnection++,
      listenerId,
      uid: 0,
      gid: 0,
      send: (bytes) => void socket.write(bytes),
      close: () => void socket.end(),
    });
    const cutter = new FrameCutter(
      ({ streamId, type, flags, payload }) => served?.onFrame(encodeFrame(streamId, type, flags, payload)),
      () => undefined,
    );
    socket.on('data', (chunk: Buffer) => cutter.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.sockets.delete(socket);
      served?.onClose();
    });
  }
}

export interface LogLine {
  level: string;
  message: string;
  fields: Record<string, unknown> | undefined;
}

export function recordingLog(): Logger & { lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: string) => (message: string, fields?: Record<string, unknown>) =>
    void lines.push({ level, message, fields });
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

export interface World extends AsyncDisposable {
  dir: string;
  runtime: MemoryRuntime;
  keel: SocketKeel;
  services: ShimServices;
  log: ReturnType<typeof recordingLog>;
  /** A second set of services over the same run folder and keel, as after a restart. */
  restart(): void;
}

const noStats: StatsSource = { subscribe: () => () => undefined };

export function createWorld(overrides: Partial<ShimServicesDependencies> = {}): World {
  const dir = mkdtempSync(join(tmpdir(), 'wherry-shim-'));
  const runtime = new MemoryRuntime();
  const keel = new SocketKeel();
  const log = recordingLog();
  const make = (): ShimServices =>
    createShimServices({
      features: () => ({}),
      runtime,
      keel,
      statsHub: noStats,
      log,
      runDir: join(dir, 'run'),
      config: { protocol: 'ttrpc' },
      version: '9.9.9',
      shimPid: 4242,
      ...overrides,
    });
  const before: ShimServices[] = [];
  const world: World = {
    dir,
    runtime,
    keel,
    log,
    services: make(),
    restart() {
      before.push(world.services);
      world.services = make();
      keel.services = world.services;
    },
    async [Symbol.asyncDispose]() {
      for (const services of [...before, world.services]) await services.close();
      keel.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  keel.services = world.services;
  return world;
}

export interface SessionResult {
  stdout: Buffer;
  stderr: string;
  code: number | undefined;
}

/** Calls the shim's command line as containerd does. */
export async function runCommand(
  services: ShimServices,
  words: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; stdin?: Uint8Array; terminal?: boolean } = {},
): Promise<SessionResult> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  let code: number | undefined;
  const session: ClientSession = {
    kind: 'client',
    request: {
      pid: 1,
      uid: 0,
      gid: 0,
      umask: 0o22,
      isTerminal: [options.terminal ?? false, false, false],
      rows: 0,
      cols: 0,
      namespaces: { mnt: 0n, user: 0n, pid: 0n, net: 0n, cgroup: 0n },
      build: 'test',
      cwd: options.cwd ?? '/',
      argv: ['/usr/bin/containerd-shim-wherry-v1', ...words],
      env: options.env ?? {},
      rlimits: [],
      oomScoreAdj: 0,
      nice: 0,
    },
    signal: new AbortController().signal,
    out: (descriptor, data) => void (descriptor === 1 ? out : err).push(Buffer.from(data)),
    play: () => Promise.reject(new Error('no tapes here')),
    wait: () => Promise.reject(new Error('no children here')),
    relay: () => {
      throw new Error('not for a shim');
    },
    readStdin: async () => {
      if (options.terminal === true) throw new Error('a terminal must not be read');
      return Buffer.from(options.stdin ?? []);
    },
    exit: (status) => {
      code = status;
    },
  };
  await services.runShim(session);
  return { stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString(), code };
}
