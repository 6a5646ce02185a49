/**
 * src/daemon: wherryd, the brain of a node. Here the runtime core, the command line and whatever services are plugged in meet
 * keel. Nothing here knows containerd: its services are handed in by the program's entry (shim/wherryd.ts).
 * This file: the wiring and the life of the process.
 */
import { dirname, join } from 'node:path';
import { detectCgroups } from '../cgroup/hierarchy.ts';
import { StatsHub } from '../cgroup/sampler.ts';
import { Launches } from '../cli/launched/launches.ts';
import { runCli } from '../cli/main.ts';
import type { ClientSession } from '../cli/session.ts';
import { Runtime } from '../container/runtime.ts';
import { WherryError } from '../errors.ts';
import { fault } from '../fault.ts';
import { hideFromTracers } from '../linux/dumpable.ts';
import { errnoName } from '../linux/errno.ts';
import { keepFilters, libseccompVersion } from '../linux/seccomp.ts';
import { featuresDocument } from '../oci/features.ts';
import { cliDependencies } from './cli-dependencies.ts';
import { ClientLink } from './client-link.ts';
import { loadConfig, type WherrydConfig } from './config.ts';
import { type Deposit, KeelLink } from './keel-link.ts';
import { createLogger, type WherrydLogger } from './log.ts';
import { endsWith } from './unexpected.ts';
import { warmUp } from './warm.ts';
import { ConnectionKind } from './wire.ts';

/** Descriptors that keel starts wherryd with (docs/internals.md). */
const KEEL_LINK = 3;
const GRPC_LISTENER = 4;

/** Version of the release; package.json's. */
export const VERSION = '0.1.0';
/** Set by the build; a run from sources has none. */
export const BUILD = process.env['WHERRY_BUILD'] ?? 'development';

/** Compiled seccomp filters, in the run folder. */
export const FILTERS = 'seccomp';

/** A ttrpc connection that keel accepted; containerd's side gives the two handlers. */
export interface TtrpcPeer {
  id: bigint;
  listenerId: bigint;
  uid: number;
  gid: number;
  send(bytes: Uint8Array): void;
  close(): void;
}

export interface TtrpcHandlers {
  onFrame(frame: Buffer): void;
  onClose(): void;
}

/** What a plugged-in side gets and gives. */
export interface ServiceDependencies {
  runtime: Runtime;
  statsHub: StatsHub;
  log: WherrydLogger;
  config: WherrydConfig;
  runDir: string;
  version: string;
  /** Names the build of the sources. */
  revision: string;
  /** The OCI features document. */
  features(): Record<string, unknown>;
  /** Called with the number of gRPC connections, which keel does not see. */
  onGrpcConnections(count: number): void;
  /** Lines about this container also go to this FIFO (`<bundle>/log`), until removeLog. */
  addLog(key: { namespace: string; id: string }, fifo: string): void;
  removeLog(key: { namespace: string; id: string }): void;
  keel: {
    readonly boot: bigint;
    listen(path: string): Promise<bigint>;
    unlisten(listener: bigint): Promise<void>;
    deposit(token: bigint, deposit: Deposit): void;
  };
}

export interface Services {
  onTtrpcConnection(peer: TtrpcPeer): TtrpcHandlers;
  runShim(session: ClientSession): Promise<void>;
  serveGrpc(descriptor: number): Promise<void>;
  close(): Promise<void>;
}

export async function runDaemon(
  createServices: (dependencies: ServiceDependencies) => Services,
): Promise<void> {
  const runDir = process.env['WHERRY_RUN_DIR'] ?? '/run/wherry';
  const { config, problem } = loadConfig(runDir);
  const log = createLogger(config);
  if (problem !== undefined)
    log.error('part of the configuration is not used', { error: problem.describe() });

  const clients = new Map<bigint, ClientLink>();
  const peers = new Map<bigint, TtrpcHandlers>();
  let services: Services | undefined;
  let keelBuild = 'unknown';
  let isService = false;
  const hello = Promise.withResolvers<{ service: boolean; bootId: bigint }>();

  const broken = endsWith(runDir, log);
  process.on('uncaughtException', broken);
  process.on('unhandledRejection', broken);

  const keel = new KeelLink(KEEL_LINK, {
    onHello(greeting) {
      keelBuild = greeting.build;
      isService = greeting.service;
      hello.resolve(greeting);
    },
    onOpen(connection) {
      const { id } = connection;
      const send = (bytes: Uint8Array) => keel.send(id, bytes);
      if (connection.kind === ConnectionKind.CLIENT) {
        clients.set(id, new ClientLink(connection, send, (session) => serveClient(session, id)));
      } else if (services !== undefined) {
        peers.set(
          id,
          services.onTtrpcConnection({
            id,
            listenerId: connection.listener,
            uid: connection.uid,
            gid: connection.gid,
            send,
            close: () => keel.closeConnection(id),
          }),
        );
      }
    },
    onData(id, bytes) {
      const client = clients.get(id);
      if (client === undefined) {
        peers.get(id)?.onFrame(bytes);
        return;
      }
      try {
        client.receive(bytes);
      } catch (thrown) {
        const error = WherryError.from(thrown);
        log.warn('a client spoke nonsense', { error: error.message });
        client.out(2, `wherry: ${error.describe()}\n`);
        client.exit(1);
      }
    },
    onClose(id) {
      clients.get(id)?.closed();
      clients.delete(id);
      peers.get(id)?.onClose();
      peers.delete(id);
    },
    onRegistered: (registration) => runtime.onRegistered(registration),
    onExit: (exit) => runtime.onExit(exit),
    onLost() {
      // keel is the parent and owns everything: without it this process has no use.
      log.info('keel has gone');
      runtime.close();
      process.exit(0);
    },
  });

  // An ordinary user's is as open as everything else of that user.
  if (process.geteuid?.() === 0) hideFromTracers();
  keepFilters(join(runDir, FILTERS), BUILD);
  const cgroups = detectCgroups();
  const cgroupVersion = cgroups.mode === 'v2' ? 2 : 1;
  const guests = () => (isService ? [] : [process.ppid, process.pid]);
  const { cgroupParent } = config;
  const runtime = new Runtime({ keel, runDir, cgroups, cgroupParent, guests, log, onBroken: broken });
  const statsHub = new StatsHub(runtime);
  const launches = new Launches({ runtime, runDir, warn: (message, fields) => log.warn(message, fields) });

  const serveClient = (session: ClientSession, id: bigint): void => {
    const name = session.request.argv[0] ?? '';
    const shim = /(^|\/)containerd-shim-[^/]*$/.test(name);
    const serve = shim
      ? services?.runShim(session)
      : runCli(
          session,
          cliDependencies({
            runtime,
            launches,
            keel,
            connection: id,
            request: session.request,
            runDir,
            cgroupVersion,
            log,
            versions: { wherry: VERSION, wherryd: BUILD, keel: keelBuild },
          }),
        );
    serve?.catch((thrown: unknown) => {
      const error = WherryError.from(thrown);
      log.error('a command failed', { connection: String(id), error: error.message, stack: error.stack });
      session.out(2, `wherry: ${error.describe()}\n`);
      session.exit(1);
    });
  };

  const { service, bootId } = await hello.promise;
  runtime.takeUp(bootId);
  services = createServices({
    runtime,
    statsHub,
    log,
    config,
    runDir,
    version: VERSION,
    revision: BUILD,
    features,
    onGrpcConnections(count) {
      if (!service) keel.idleAfter(count > 0 ? 0 : config.idleSeconds);
    },
    ...followers(log),
    keel: listeners(keel, bootId),
  });
  if (!service) keel.idleAfter(config.idleSeconds);
  await services.serveGrpc(GRPC_LISTENER);
  runtime.tellAgain();
  fault('ready');
  keel.ready(BUILD);
  // Its answer comes after all that keel had to tell.
  keel
    .status()
    .then(() => runtime.settle())
    .then(() => launches.takeUp())
    .catch((error: unknown) => log.error('containers cannot be taken up', { error: String(error) }));
  warmUp(log, cgroups);
  process.on('SIGTERM', () => {
    void services?.close().finally(() => process.exit(0));
  });
  log.info('wherryd is ready', { version: VERSION, build: BUILD, pid: process.pid });
}

function features(): Record<string, unknown> {
  let libseccomp: string | undefined;
  try {
    libseccomp = libseccompVersion();
  } catch {
    // Not installed: then there are no filters.
  }
  return featuresDocument({ version: VERSION, commit: BUILD, libseccomp });
}

/** Which containers' lines go to a log FIFO, and how to stop that. */
function followers(log: WherrydLogger): Pick<ServiceDependencies, 'addLog' | 'removeLog'> {
  const stops = new Map<string, () => void>();
  const nameOf = (key: { namespace: string; id: string }) => `${key.namespace}\0${key.id}`;
  return {
    addLog(key, fifo) {
      stops.get(nameOf(key))?.();
      stops.set(nameOf(key), log.follow(key, dirname(fifo)));
    },
    removeLog(key) {
      stops.get(nameOf(key))?.();
      stops.delete(nameOf(key));
    },
  };
}

/** Listener ids are ours to choose; they must not repeat within one life of keel. */
function listeners(keel: KeelLink, boot: bigint): ServiceDependencies['keel'] {
  let next = BigInt(Date.now()) << 16n;
  return {
    boot,
    async listen(path) {
      const id = next++;
      const result = await keel.listen(id, path);
      if (result < 0) {
        throw new WherryError('unavailable', `cannot listen on ${path}: ${errnoName(-result)}`, {
          errno: -result,
          syscall: 'listen',
        });
      }
      return id;
    },
    async unlisten(id) {
      await keel.unlisten(id);
    },
    deposit: (token, deposit) => keel.deposit(token, deposit),
  };
}
