/** A small gRPC client of a private wherryd, for tests that also run where buf is not: containers whose parent is keel. */
import { join } from 'node:path';
import { Client, type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js';
import {
  CreateTaskRequest,
  CreateTaskResponse,
  DeleteRequest,
  DeleteResponse,
  KillRequest,
  StartRequest,
  StartResponse,
  StatsRequest,
  StatsResponse,
  WaitRequest,
  WaitResponse,
} from '../../shim/gen/containerd/task/v2/shim.ts';
import { Empty } from '../../shim/gen/google/protobuf/empty.ts';
import {
  type Container,
  ListContainersRequest,
  ListContainersResponse,
  StreamStatsRequest,
  StreamStatsResponse,
} from '../../shim/gen/wherry/v1/runtime.ts';
import type { Wherry } from './wherry.ts';

/** What ts-proto makes of a message. */
interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

const DEADLINE_MS = 90_000;

export class GrpcClient implements Disposable {
  readonly #client: Client;

  /** The daemon must run. */
  constructor(wherry: Pick<Wherry, 'runDir'>) {
    this.#client = new Client(`unix:${join(wherry.runDir, 'grpc.sock')}`, credentials.createInsecure());
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  async create(id: string, bundle: string): Promise<number> {
    const request = CreateTaskRequest.fromPartial({ id, bundle });
    return (await this.#task('Create', CreateTaskRequest, CreateTaskResponse, request)).pid;
  }

  async start(id: string): Promise<void> {
    await this.#task('Start', StartRequest, StartResponse, StartRequest.fromPartial({ id }));
  }

  async kill(id: string, signal: number): Promise<void> {
    await this.#task('Kill', KillRequest, Empty, KillRequest.fromPartial({ id, signal }));
  }

  /** The exit status. */
  async wait(id: string): Promise<number> {
    return (await this.#task('Wait', WaitRequest, WaitResponse, WaitRequest.fromPartial({ id }))).exitStatus;
  }

  async delete(id: string): Promise<number> {
    const request = DeleteRequest.fromPartial({ id });
    return (await this.#task('Delete', DeleteRequest, DeleteResponse, request)).exitStatus;
  }

  /** The Any's bytes. */
  async stats(id: string): Promise<Uint8Array> {
    const answer = await this.#task('Stats', StatsRequest, StatsResponse, StatsRequest.fromPartial({ id }));
    return answer.stats?.value ?? new Uint8Array();
  }

  async container(id: string): Promise<Container | undefined> {
    const method = 'wherry.v1.Runtime/ListContainers';
    const request = ListContainersRequest.fromPartial({});
    const { containers } = await this.#unary(method, ListContainersRequest, ListContainersResponse, request);
    return containers.find((container) => container.id === id);
  }

  /** Samples of one container until its end. */
  streamStats(id: string, milliseconds: number): ClientReadableStream<StreamStatsResponse> {
    const request = { id, interval: { seconds: 0n, nanos: milliseconds * 1_000_000 } };
    return this.#client.makeServerStreamRequest(
      '/wherry.v1.Runtime/StreamStats',
      (value: StreamStatsRequest) => Buffer.from(StreamStatsRequest.encode(value).finish()),
      (bytes) => StreamStatsResponse.decode(bytes),
      StreamStatsRequest.fromPartial(request),
      new Metadata(),
    );
  }

  #task<Q, A>(method: string, question: Codec<Q>, answer: Codec<A>, request: Q): Promise<A> {
    return this.#unary(`containerd.task.v3.Task/${method}`, question, answer, request);
  }

  #unary<Q, A>(method: string, question: Codec<Q>, answer: Codec<A>, request: Q): Promise<A> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${method}`,
        (value: Q) => Buffer.from(question.encode(value).finish()),
        (bytes) => answer.decode(bytes),
        request,
        new Metadata(),
        { deadline: Date.now() + DEADLINE_MS },
        (error, value) => (error === null && value !== undefined ? resolve(value) : reject(error)),
      );
    });
  }
}
