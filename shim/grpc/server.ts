/**
 * The same services over gRPC, with grpc-js: loaded when the first caller comes. Lives here: what gRPC needs beside the tables of
 * methods (streams, metadata, health, reflection). Not here: what a method does.
 */
import type { Socket } from 'node:net';
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
  type StatusObject,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { WherryError } from '../../src/errors.ts';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
} from '../gen/grpc/health/v1/health.ts';
import { ServerReflectionRequest, ServerReflectionResponse } from '../gen/grpc/reflection/v1/reflection.ts';
import { StreamStatsRequest, StreamStatsResponse } from '../gen/wherry/v1/runtime.ts';
import type { Logger } from '../log.ts';
import type { ShimRuntime } from '../runtime.ts';
import { requireName } from '../task/names.ts';
import { Call } from '../ttrpc/call.ts';
import type { Codec, ServiceTable, UnaryMethod } from '../ttrpc/service.ts';
import { reflect } from './reflection.ts';
import { intervalOf, type StatsSource, StatsStream } from './stats-stream.ts';

export interface GrpcOptions {
  services: ServiceTable;
  runtime: ShimRuntime;
  stats: StatsSource;
  /** Whose container a caller means who names only an id and perhaps a namespace. */
  ownerOf(namespace: string | undefined, id: string, creates: boolean): { scope: string; namespace: string };
  log: Logger;
}

export interface GrpcServer {
  /** Takes an accepted connection. */
  inject(socket: Socket): void;
  /** Ends open calls. */
  close(): void;
}

const DEFAULT_NAMESPACE = 'default';
const NAMESPACE_KEY = 'containerd-namespace';
/** As on ttrpc. */
const MAX_MESSAGE = 4 << 20;

interface Stream {
  requestStream: boolean;
  responseStream: boolean;
}

/** Requests stay bytes until the handler decodes them, so that a malformed one is the caller's error and not ours. */
function definition(
  path: string,
  response: Codec<unknown>,
  stream: Stream,
): MethodDefinition<Buffer, unknown> {
  return {
    path,
    ...stream,
    requestSerialize: (bytes) => bytes,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (message) => Buffer.from(response.encode(message).finish()),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}

const UNARY: Stream = { requestStream: false, responseStream: false };
const SERVER_STREAM: Stream = { requestStream: false, responseStream: true };
const BIDI: Stream = { requestStream: true, responseStream: true };

function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  try {
    return codec.decode(bytes);
  } catch (cause) {
    throw new WherryError('invalid-argument', `request cannot be decoded: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function statusOf(thrown: unknown): Partial<StatusObject> {
  const error = WherryError.from(thrown);
  return { code: error.code, details: error.describe() };
}

function namespaceOf(metadata: Metadata): string | undefined {
  const value = metadata.get(NAMESPACE_KEY)[0];
  return value === undefined || value === '' ? undefined : String(value);
}

class Services {
  readonly names: string[] = [];
  private readonly server: Server;

  constructor(server: Server) {
    this.server = server;
  }

  add(name: string, methods: Record<string, [MethodDefinition<Buffer, unknown>, UntypedHandleCall]>): void {
    const entries = Object.entries(methods);
    const service = Object.fromEntries(entries.map(([method, [described]]) => [method, described]));
    this.server.addService(
      service satisfies ServiceDefinition,
      Object.fromEntries(entries.map(([method, [, handle]]) => [method, handle])),
    );
    this.names.push(name);
  }
}

export function createGrpcServer(options: GrpcOptions): GrpcServer {
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE,
    'grpc.enable_channelz': 0,
  });
  const services = new Services(server);
  const calls = unaryHandlers(options);
  for (const [name, table] of options.services) {
    const methods = Object.entries(table).map(([method, unary]) => [
      method,
      [definition(`/${name}/${method}`, unary.response, UNARY), calls(method, unary)],
    ]);
    const entries = Object.fromEntries(methods);
    if (name === 'wherry.v1.Runtime') {
      const described = definition(`/${name}/StreamStats`, StreamStatsResponse, SERVER_STREAM);
      entries.StreamStats = [described, streamStats(options)];
    }
    services.add(name, entries);
  }
  addHealth(services);
  addReflection(services);

  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  return {
    inject: (socket) => injector.injectConnection(socket),
    close() {
      injector.destroy();
      server.forceShutdown();
    },
  };
}

function unaryHandlers({ ownerOf, log }: GrpcOptions) {
  let sequence = 0;
  return (name: string, method: UnaryMethod): handleUnaryCall<Buffer, unknown> =>
    (call, callback) => {
      const requestId = `grpc.${++sequence}`;
      let answered = false;
      const run = (): Promise<unknown> => {
        const request = decode(method.request, call.request);
        const namespace = namespaceOf(call.metadata);
        const id = (request as { id?: unknown }).id;
        const owner =
          typeof id === 'string'
            ? ownerOf(namespace, id, name === 'Create')
            : { scope: '', namespace: namespace ?? DEFAULT_NAMESPACE };
        const context = new Call({ ...owner, listenerId: 0n }, requestId);
        // grpc-js says it of every call, when that has ended at the latest.
        call.on('cancelled', () => {
          if (!answered) context.abort(() => new WherryError('canceled', 'the caller has gone'));
        });
        return method.handle(request, context);
      };
      // Begins at once; what it throws before its first wait is a rejection, too.
      new Promise((resolve) => resolve(run())).then(
        (response) => {
          answered = true;
          callback(null, response);
        },
        (thrown) => {
          answered = true;
          log.debug('gRPC call failed', {
            request: requestId,
            method: name,
            error: WherryError.from(thrown).message,
          });
          callback(statusOf(thrown));
        },
      );
    };
}

function streamStats(options: GrpcOptions): handleServerStreamingCall<Buffer, StreamStatsResponse> {
  const { runtime, stats, ownerOf } = options;
  return (call) => {
    try {
      const request = decode(StreamStatsRequest, call.request);
      const named = request.namespace || namespaceOf(call.metadata);
      const namespace = requireName('namespace', named ?? DEFAULT_NAMESPACE);
      const intervalMs = intervalOf(request.interval);
      const subject = request.id === '' ? namespace : runtime.find(keyOf(request.id, named, ownerOf));
      if (subject === undefined) {
        throw new WherryError('not-found', `id ${JSON.stringify(request.id)}: container not created`, {
          path: 'id',
        });
      }
      const stream = new StatsStream(runtime, stats, sinkOf(call), intervalMs, subject);
      call.on('cancelled', () => stream.close());
      call.on('close', () => stream.close());
      call.on('error', () => stream.close());
    } catch (thrown) {
      call.emit('error', statusOf(thrown));
    }
  };
}

function keyOf(id: string, namespace: string | undefined, ownerOf: GrpcOptions['ownerOf']) {
  return { ...ownerOf(namespace, requireName('id', id), false), id };
}

function sinkOf(call: ServerWritableStream<Buffer, StreamStatsResponse>) {
  return {
    send: (message: StreamStatsResponse, done: () => void) => {
      call.write(message, () => done());
    },
    end: () => call.end(),
  };
}

/** grpc.health.v1: a service that is registered serves. */
function addHealth(services: Services): void {
  const name = 'grpc.health.v1.Health';
  const statusFor = ({ service }: HealthCheckRequest) => service === '' || services.names.includes(service);
  const { SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;
  const check: handleUnaryCall<Buffer, HealthCheckResponse> = (call, callback) => {
    try {
      const request = decode(HealthCheckRequest, call.request);
      if (!statusFor(request)) {
        throw new WherryError('not-found', `service: ${request.service} is not served`, { path: 'service' });
      }
      callback(null, { status: SERVING });
    } catch (thrown) {
      callback(statusOf(thrown));
    }
  };
  const watch: handleServerStreamingCall<Buffer, HealthCheckResponse> = (call) => {
    try {
      // It never changes while the server lives; the stream stays open until the caller goes.
      call.write({ status: statusFor(decode(HealthCheckRequest, call.request)) ? SERVING : SERVICE_UNKNOWN });
    } catch (thrown) {
      call.emit('error', statusOf(thrown));
    }
  };
  services.add(name, {
    Check: [definition(`/${name}/Check`, HealthCheckResponse, UNARY), check],
    Watch: [definition(`/${name}/Watch`, HealthCheckResponse, SERVER_STREAM), watch],
  });
}

function addReflection(services: Services): void {
  const handle: handleBidiStreamingCall<Buffer, ServerReflectionResponse> = (call) => {
    call.on('data', (bytes: Buffer) => {
      try {
        call.write(reflect(decode(ServerReflectionRequest, bytes), services.names));
      } catch (thrown) {
        call.emit('error', statusOf(thrown));
      }
    });
    call.on('end', () => call.end());
  };
  for (const version of ['v1', 'v1alpha']) {
    const name = `grpc.reflection.${version}.ServerReflection`;
    const method = definition(`/${name}/ServerReflectionInfo`, ServerReflectionResponse, BIDI);
    services.add(name, { ServerReflectionInfo: [method, handle] });
  }
}
