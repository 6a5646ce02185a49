/** The gRPC server of the unit tests. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { StreamStatsRequest, StreamStatsResponse } from '../../../../shim/gen/wherry/v1/runtime.ts';
import type { ShimServicesDependencies } from '../../../../shim/main.ts';
import { StatsHub } from '../../../../src/cgroup/sampler.ts';
import { serveOnDescriptor } from './grpc.ts';
import { MemoryRuntime } from './runtime.ts';
import { createWorld } from './world.ts';

export const TASK = 'containerd.task.v3.Task';
export const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };

/** A server of the shim's gRPC services over a runtime in memory, and a client. */
export async function setUp(overrides: Partial<ShimServicesDependencies> = {}) {
  const runtime = new MemoryRuntime();
  const hub = new StatsHub(runtime);
  const world = createWorld({ runtime, statsHub: hub, ...overrides });
  const path = join(world.dir, 'grpc.sock');
  const bound = await serveOnDescriptor(world.services, path);
  const client = new Client(`unix:${path}`, credentials.createInsecure());
  const live = async (id: string, scope = '', namespace = 'default') => {
    const key = { scope, namespace, id };
    await runtime.create({ key, bundle: '/b', rootfsMounts: [], stdio }, { requestId: '' });
    await runtime.start(key);
    return key;
  };
  const unary = (method: string, request: Buffer, metadata = new Metadata()) =>
    new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(
        `/${TASK}/${method}`,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
        request,
        metadata,
        (error, value) => (error === null && value !== undefined ? resolve(value) : reject(error)),
      );
    });
  const stream = (request: Parameters<typeof StreamStatsRequest.fromPartial>[0], metadata = new Metadata()) =>
    client.makeServerStreamRequest(
      '/wherry.v1.Runtime/StreamStats',
      (value: StreamStatsRequest) => Buffer.from(StreamStatsRequest.encode(value).finish()),
      (bytes) => StreamStatsResponse.decode(bytes),
      StreamStatsRequest.fromPartial(request),
      metadata,
    );
  return {
    runtime,
    hub,
    world,
    path,
    live,
    unary,
    stream,
    async [Symbol.asyncDispose]() {
      client.close();
      await world[Symbol.asyncDispose]();
      bound.close();
    },
  };
}

/** The shortest that is allowed. */
export const interval = { seconds: 0n, nanos: 100_000_000 };

export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** All messages until the end, or the error. */
export async function all(
  call: ReturnType<Awaited<ReturnType<typeof setUp>>['stream']>,
): Promise<StreamStatsResponse[] | ServiceError> {
  const messages: StreamStatsResponse[] = [];
  try {
    for await (const message of call) messages.push(message as StreamStatsResponse);
    return messages;
  } catch (error) {
    return error as ServiceError;
  }
}
