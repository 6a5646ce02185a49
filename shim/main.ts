/**
 * containerd's side of Wherry, and gRPC: the task service on two transports, events, the shim's command line, streamed stats. This
 * file wires the parts to a runtime core and to keel. The core (src/) knows nothing of it.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { ClientSession } from '../src/cli/session.ts';
import { WherryError } from '../src/errors.ts';
import { peerUid } from '../src/linux/peer.ts';
import { Groups, type KeelPort } from './bootstrap/groups.ts';
import { runShim } from './bootstrap/shim.ts';
import { EventJournal } from './events/journal.ts';
import { EventPublisher } from './events/publisher.ts';
import { createRuntimeService } from './grpc/runtime-service.ts';
import type { GrpcServer } from './grpc/server.ts';
import type { StatsSource } from './grpc/stats-stream.ts';
import type { Logger } from './log.ts';
import type { ShimRuntime } from './runtime.ts';
import { createSandboxService } from './sandbox/service.ts';
import { keepDeposits } from './task/deposits.ts';
import { createTaskService } from './task/service.ts';
import { serveTtrpcConnection, type TtrpcConnection } from './ttrpc/server.ts';
import type { ServiceTable } from './ttrpc/service.ts';

export interface ShimServicesDependencies {
  runtime: ShimRuntime;
  keel: KeelPort;
  statsHub: StatsSource;
  log: Logger;
  runDir: string;
  config: { protocol: 'ttrpc' | 'grpc' };
  version: string;
  /** Revision of the sources, for -v. */
  revision?: string;
  /** What Connect gives as the shim's pid; default: the parent of this process, which is keel. */
  shimPid?: number;
  /** The OCI features document, for -info. */
  features(): Record<string, unknown>;
  /** How many gRPC connections there are now: keel does not see them, and must not count the node as idle. */
  onGrpcConnections?(count: number): void;
  /** A container's log lines go to this FIFO too, until removeLog. */
  addLog?(key: { namespace: string; id: string }, fifo: string): void;
  removeLog?(key: { namespace: string; id: string }): void;
}

/** A ttrpc connection that keel has accepted. */
export interface AcceptedConnection {
  id: bigint;
  listenerId: bigint;
  uid: number;
  gid: number;
  /** One whole frame. */
  send(bytes: Uint8Array): void;
  close(): void;
}

export interface ShimServices {
  onTtrpcConnection(connection: AcceptedConnection): TtrpcConnection;
  /** Serves one call of containerd-shim-wherry-v1. Never rejects. */
  runShim(session: ClientSession): Promise<void>;
  /** Serves gRPC on a listening descriptor. Resolves when it accepts. */
  serveGrpc(fd: number): Promise<void>;
  /** Delivers the last events (2 s at most), ends gRPC calls. */
  close(): Promise<void>;
}

const FLUSH_MS = 2000;

export function createShimServices(dependencies: ShimServicesDependencies): ShimServices {
  const { runtime, keel, statsHub, log, runDir, version } = dependencies;
  const groups = new Groups(runtime, keel, log, runDir);
  const deposit = keel.deposit?.bind(keel);
  if (deposit !== undefined) keepDeposits({ runtime, deposit, listenerOf: (key) => groups.listenerOf(key) });
  const journal = new EventJournal(runDir, log);
  const publisher = new EventPublisher(
    runtime,
    (scope, namespace) => groups.eventAddress(scope, namespace),
    log,
    journal,
  );
  const shimPid = dependencies.shimPid ?? process.ppid;
  const tasks = createTaskService({
    runtime,
    groups,
    log,
    version,
    shimPid,
    deleted: journal.deleted(),
  });
  const taskTables: [string, typeof tasks.methods][] = [
    ['containerd.task.v2.Task', tasks.methods],
    ['containerd.task.v3.Task', tasks.methods],
  ];
  const ttrpcServices: ServiceTable = new Map([
    ...taskTables,
    ['containerd.runtime.sandbox.v1.Sandbox', createSandboxService({ runtime, groups })],
  ]);
  const shim = {
    runtime,
    groups,
    tasks,
    log,
    runDir,
    protocol: dependencies.config.protocol,
    version,
    revision: dependencies.revision ?? '',
    features: dependencies.features,
    addLog: dependencies.addLog,
    removeLog: dependencies.removeLog,
  };

  let grpc: Promise<GrpcServer> | undefined;
  let listener: Server | undefined;
  let grpcConnections = 0;
  /** grpc-js takes tens of milliseconds to load, so it is loaded when the first caller is there. */
  const loadGrpc = (): Promise<GrpcServer> => {
    grpc ??= import('./grpc/server.ts').then(({ createGrpcServer }) =>
      createGrpcServer({
        services: new Map([['wherry.v1.Runtime', createRuntimeService(runtime, version)], ...taskTables]),
        runtime,
        stats: statsHub,
        ownerOf: (namespace, id, creates) => groups.ownerOf(namespace, id, creates),
        log,
      }),
    );
    return grpc;
  };
  const onGrpcConnection = (socket: Socket): void => {
    const uid = peerUid(socket);
    // The folder keeps others out already; a socket that somebody opened up must not let them in.
    if (uid !== 0 && uid !== process.geteuid?.()) {
      log.warn('gRPC connection refused: not our user', { uid });
      socket.destroy();
      return;
    }
    dependencies.onGrpcConnections?.(++grpcConnections);
    socket.once('close', () => dependencies.onGrpcConnections?.(--grpcConnections));
    // Until grpc-js has it.
    socket.on('error', () => socket.destroy());
    loadGrpc().then(
      (server) => server.inject(socket),
      (error) => {
        log.error('gRPC cannot be served', { error: String(error) });
        socket.destroy();
      },
    );
  };

  return {
    onTtrpcConnection(connection) {
      const owner = groups.connected(connection.listenerId);
      const fields = { connection: String(connection.id), namespace: owner?.namespace };
      if (owner === undefined) log.error('a connection from a socket that is not known', fields);
      const served = serveTtrpcConnection({
        // Not closed, which containerd would take for the death of its containers: each call is answered with an error.
        services: owner === undefined ? new Map() : ttrpcServices,
        send: (frame) => connection.send(frame),
        context: {
          namespace: owner?.namespace ?? '',
          scope: owner?.scope ?? '',
          listenerId: connection.listenerId,
        },
        name: String(connection.id),
        onError: (method, request, error) =>
          log.debug('call failed', { ...fields, request, method, error: error.message }),
      });
      return {
        onFrame: served.onFrame,
        onClose() {
          served.onClose();
          owner?.release();
        },
      };
    },

    runShim: (session) => runShim(session, shim),

    serveGrpc(fd) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      listener = createServer(onGrpcConnection);
      listener.once('error', (cause) =>
        reject(
          new WherryError('internal', `cannot serve gRPC on descriptor ${fd}: ${cause.message}`, { cause }),
        ),
      );
      listener.listen({ fd }, resolve);
      return promise;
    },

    async close() {
      groups.close();
      listener?.close();
      await publisher.close(FLUSH_MS);
      journal.close();
      (await grpc?.catch(() => undefined))?.close();
    },
  };
}
