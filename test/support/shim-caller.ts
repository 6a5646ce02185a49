/**
 * Calls a shim as containerd does: executes `start` and `delete` in a bundle, speaks the task service over what `start` answered. Events go to
 * the real containerd behind it. Works with any shim, so that one test may ask Wherry's and containerd's own the same thing.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, constants, cpSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { BootstrapResult } from '../../shim/gen/containerd/runtime/bootstrap/v1/bootstrap.ts';
import * as task from '../../shim/gen/containerd/task/v2/shim.ts';
import { Empty } from '../../shim/gen/google/protobuf/empty.ts';
import { TtrpcClient } from '../../shim/ttrpc/client.ts';
import type { Codec } from '../../shim/ttrpc/service.ts';
import { WherryError } from '../../src/errors.ts';
import { makeBundle, type SpecConfig } from './bundle.ts';
import type { Containerd } from './containerd.ts';
import { bin, uniqueId } from './paths.ts';
import { eventually, must, type RunResult, run, stop } from './run.ts';

const codecs = {
  State: [task.StateRequest, task.StateResponse],
  Create: [task.CreateTaskRequest, task.CreateTaskResponse],
  Start: [task.StartRequest, task.StartResponse],
  Delete: [task.DeleteRequest, task.DeleteResponse],
  Pids: [task.PidsRequest, task.PidsResponse],
  Pause: [task.PauseRequest, Empty],
  Resume: [task.ResumeRequest, Empty],
  Kill: [task.KillRequest, Empty],
  Exec: [task.ExecProcessRequest, Empty],
  ResizePty: [task.ResizePtyRequest, Empty],
  CloseIO: [task.CloseIORequest, Empty],
  Update: [task.UpdateTaskRequest, Empty],
  Wait: [task.WaitRequest, task.WaitResponse],
  Stats: [task.StatsRequest, task.StatsResponse],
  Connect: [task.ConnectRequest, task.ConnectResponse],
  Shutdown: [task.ShutdownRequest, Empty],
} as const;
export type Method = keyof typeof codecs;
export const responseCodec = (method: Method): Codec<unknown> =>
  codecs[method][1] as unknown as Codec<unknown>;
type Decoded<C> = C extends Codec<infer T> ? T : never;
type RequestOf<M extends Method> = Partial<Decoded<(typeof codecs)[M][0]>>;
type ResponseOf<M extends Method> = Decoded<(typeof codecs)[M][1]>;

/** A status that is not OK. */
export class RpcError extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export interface TaskClient extends Disposable {
  /** `timeout` in ms, 0 for none. */
  call<M extends Method>(method: M, request: RequestOf<M>, timeout?: number): Promise<ResponseOf<M>>;
  /** The bytes of the answer. */
  raw<M extends Method>(method: M, request: RequestOf<M>): Promise<Buffer>;
}

const CALL_MS = 60_000;

const bytes: Codec<Buffer> = {
  encode: (message) => ({ finish: () => message }),
  decode: (read) => Buffer.from(read),
};

class TtrpcTasks implements TaskClient {
  readonly #client: TtrpcClient;
  readonly #service: string;
  constructor(client: TtrpcClient, service: string) {
    this.#client = client;
    this.#service = service;
  }
  call<M extends Method>(method: M, request: RequestOf<M>, timeout = CALL_MS): Promise<ResponseOf<M>> {
    return this.#call(method, request, codecs[method][1] as unknown as Codec<ResponseOf<M>>, timeout);
  }
  raw<M extends Method>(method: M, request: RequestOf<M>): Promise<Buffer> {
    return this.#call(method, request, bytes, CALL_MS);
  }
  async #call<M extends Method, T>(
    method: M,
    request: RequestOf<M>,
    response: Codec<T>,
    timeout: number,
  ): Promise<T> {
    const asked = codecs[method][0] as unknown as Codec<unknown> & { fromPartial(part: object): unknown };
    try {
      const both = { request: asked, response };
      return await this.#client.call(this.#service, method, both, asked.fromPartial(request), timeout);
    } catch (thrown) {
      const error = WherryError.from(thrown);
      throw new RpcError(error.code, error.message);
    }
  }
  [Symbol.dispose](): void {
    this.#client.close();
  }
}

class GrpcTasks implements TaskClient {
  readonly #client: Client;
  readonly #metadata = new Metadata();
  constructor(path: string, namespace: string) {
    this.#client = new Client(`unix:${path}`, credentials.createInsecure());
    this.#metadata.set('containerd-namespace', namespace);
  }
  call<M extends Method>(method: M, request: RequestOf<M>, timeout = CALL_MS): Promise<ResponseOf<M>> {
    const [asked, answered] = codecs[method] as unknown as [
      Codec<unknown> & { fromPartial(part: object): unknown },
      Codec<ResponseOf<M>>,
    ];
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/containerd.task.v3.Task/${method}`,
        (message: unknown) => Buffer.from(asked.encode(message).finish()),
        (bytes: Buffer) => answered.decode(bytes),
        asked.fromPartial(request),
        this.#metadata,
        timeout === 0 ? {} : { deadline: Date.now() + timeout },
        (error: ServiceError | null, response?: ResponseOf<M>) => {
          if (error !== null) reject(new RpcError(error.code, error.details));
          else resolve(response as ResponseOf<M>);
        },
      );
    });
  }
  raw(): Promise<Buffer> {
    return Promise.reject(new Error('grpc-js keeps no bytes'));
  }
  [Symbol.dispose](): void {
    this.#client.close();
  }
}

export interface ShimEvent {
  topic: string;
  /** The event as ctr prints it. */
  fields: Record<string, unknown>;
}

/** What a container is made of, but its id. */
export interface Made {
  id: string;
  bundle: string;
  client: TaskClient;
  /** Path of the shim's socket. */
  address: string;
}

export interface MakeOptions {
  edit?: (config: SpecConfig) => void;
  create?: Partial<task.CreateTaskRequest>;
  /** Connect and Create, but no Start. */
  created?: boolean;
  /** Any of runc's options on stdin of `start`. */
  stdin?: Uint8Array;
}

export class ShimCaller implements AsyncDisposable {
  readonly containerd: Containerd;
  readonly grpc: boolean;
  readonly binary: string;
  readonly folder: string;
  readonly #service: string;
  readonly #events: ChildProcess;
  readonly #made: Made[] = [];
  readonly #logs: number[] = [];
  #base: Promise<string> | undefined;
  #seen = '';

  constructor(containerd: Containerd, options: { grpc?: boolean; binary?: string; service?: string } = {}) {
    this.containerd = containerd;
    this.grpc = options.grpc === true;
    this.#service = options.service ?? 'containerd.task.v2.Task';
    this.binary = options.binary ?? join(bin, 'containerd-shim-wherry-v1');
    this.folder = join(
      containerd.folder,
      `b${createHash('md5').update(this.binary).digest('hex').slice(0, 4)}`,
    );
    mkdirSync(this.folder, { recursive: true, mode: 0o711 });
    this.#events = spawn(containerd.ctrPath, [...containerd.globalFlags, 'events'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#events.stdout?.on('data', (chunk: Buffer) => {
      this.#seen += String(chunk);
    });
  }

  get namespace(): string {
    return this.containerd.namespace;
  }

  /** Resolves when containerd's events reach us. */
  async subscribed(): Promise<this> {
    const probe = uniqueId('probe');
    await this.containerd.mustCtr(['container', 'create', 'wherry.test/busybox:latest', probe]);
    await eventually('the subscription is up', async () => {
      await this.containerd.mustCtr(['container', 'label', probe, 'probe=1']);
      return this.#seen.includes(probe) || undefined;
    });
    await this.containerd.mustCtr(['container', 'rm', probe]);
    return this;
  }

  /** What containerd gives to its shims. */
  get env(): NodeJS.ProcessEnv {
    const { address, runDir, version } = this.containerd;
    const paths = [bin, join(this.containerd.ctrPath, '..'), this.containerd.runcFolder];
    return {
      HOME: '/root',
      PATH: `${paths.join(':')}:/usr/sbin:/usr/bin:/sbin:/bin`,
      WHERRY_RUN_DIR: runDir,
      GOMAXPROCS: '2',
      TTRPC_ADDRESS: `${address}.ttrpc`,
      ...(process.env['WHERRY_TEST_MARK'] !== undefined && {
        WHERRY_TEST_MARK: process.env['WHERRY_TEST_MARK'],
      }),
      ...(version !== '1.6' && {
        MAX_SHIM_VERSION: '2',
        GRPC_ADDRESS: address,
        NAMESPACE: this.namespace,
      }),
    };
  }

  flags(id: string): string[] {
    const { address, ctrPath } = this.containerd;
    const publish = join(ctrPath, '../containerd');
    return ['-namespace', this.namespace, '-address', address, '-publish-binary', publish, '-id', id];
  }

  /** A bundle over a root filesystem that all share; its own copy only where `ownRoot`. */
  async bundle(
    id: string,
    args: readonly string[],
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<string> {
    this.#base ??= makeBundle(this.folder, 'base', ['/bin/true']);
    const base = await this.#base;
    const bundle = join(this.folder, id);
    mkdirSync(join(bundle, 'rootfs'), { recursive: true, mode: 0o711 });
    const config = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8')) as SpecConfig;
    config.root = { path: join(base, 'rootfs'), readonly: false };
    config.process.args = [...args];
    config.linux['cgroupsPath'] = `/${this.namespace}/${id}`;
    edit(config);
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    // As containerd does: a shim's log, of which it holds the reading end.
    const log = join(bundle, 'log');
    await must('mkfifo', ['-m', '700', log]);
    this.#logs.push(openSync(log, constants.O_RDWR | constants.O_NONBLOCK));
    return bundle;
  }

  /** A root filesystem of its own, to be mounted as containerd's snapshotters do. */
  ownRoot(id: string): string {
    const root = join(this.folder, `${id}.root`);
    cpSync(join(this.folder, 'base/rootfs'), root, { recursive: true, verbatimSymlinks: true });
    return root;
  }

  /** Executes the shim in the bundle with what comes behind the flags. */
  execute(
    id: string,
    action: string,
    options: { stdin?: Uint8Array; env?: NodeJS.ProcessEnv; flags?: readonly string[] } = {},
  ): Promise<RunResult> {
    return run(this.binary, [...this.flags(id), ...(options.flags ?? []), action], {
      cwd: join(this.folder, id),
      env: { ...this.env, ...options.env },
      input: options.stdin ?? '',
      encoding: 'latin1',
    });
  }

  async start(id: string, options: { stdin?: Uint8Array; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.execute(id, 'start', options);
    if (code !== 0) throw new Error(`start: exit code ${code}: ${stdout}${stderr}`);
    return addressOf(stdout);
  }

  delete(id: string): Promise<RunResult> {
    return this.deleteIn(this.folder, id);
  }

  /** Of a bundle in this folder, which may be another caller's. */
  deleteIn(folder: string, id: string): Promise<RunResult> {
    return run(this.binary, [...this.flags(id), '-bundle', join(folder, id), 'delete'], {
      cwd: join(folder, id),
      env: this.env,
      encoding: 'latin1',
    });
  }

  async connect(address: string, service = this.#service): Promise<TaskClient> {
    if (this.grpc) return new GrpcTasks(address, this.namespace);
    return new TtrpcTasks(await TtrpcClient.dial(address), service);
  }

  /** start, Connect, Create and Start of one container; removed at the end whatever happens. */
  async make(name: string, args: readonly string[], options: MakeOptions = {}): Promise<Made> {
    const id = uniqueId(name);
    const bundle = await this.bundle(id, args, options.edit);
    const address = await this.start(id, options.stdin && { stdin: options.stdin });
    const client = await this.connect(address);
    const made = { id, bundle, client, address };
    this.#made.push(made);
    await client.call('Create', { id, bundle, ...options.create });
    if (options.created !== true) await client.call('Start', { id });
    return made;
  }

  /** Delete, Shutdown, the end of the connection and `delete`, as containerd does. */
  async remove({ id, client }: Made): Promise<void> {
    await client.call('Kill', { id, signal: 9, all: true }).catch(() => undefined);
    await client.call('Wait', { id }).catch(() => undefined);
    await client.call('Delete', { id }).catch(() => undefined);
    await client.call('Shutdown', { id }).catch(() => undefined);
    client[Symbol.dispose]();
    await this.delete(id);
    const index = this.#made.findIndex((one) => one.id === id);
    if (index >= 0) this.#made.splice(index, 1);
  }

  /** Of one container, in the order in which they came. */
  events(id: string): ShimEvent[] {
    const whole = this.#seen.split('\n').slice(0, -1);
    return whole.flatMap((line) => {
      const found = / (\/tasks\/[a-z-]+) (\{.*\})$/.exec(line);
      if (found === null || !line.includes(`"${id}"`)) return [];
      return [{ topic: found[1] ?? '', fields: JSON.parse(found[2] ?? '{}') as Record<string, unknown> }];
    });
  }

  topics(id: string): string[] {
    return this.events(id).map(({ topic }) => topic.replace('/tasks/', ''));
  }

  async untilTopics(id: string, topics: readonly string[]): Promise<void> {
    const wanted = topics.join(' ');
    await eventually(`events of ${id}: ${wanted}`, () => {
      const seen = this.topics(id).join(' ');
      if (seen !== wanted) throw new Error(`seen: ${seen}`);
      return true;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const made of [...this.#made]) await this.remove(made).catch(() => undefined);
    for (const log of this.#logs) closeSync(log);
    await stop(this.#events);
  }
}

/** The address in any of the three answers of `start`, without unix://. */
export function addressOf(answer: string | Uint8Array): string {
  const text = typeof answer === 'string' ? answer.trim() : Buffer.from(answer).toString();
  const address = text.startsWith('{')
    ? String((JSON.parse(text) as { address: string }).address)
    : /^(unix:|\/)/.test(text)
      ? text
      : BootstrapResult.decode(Buffer.from(answer as Uint8Array)).address;
  return address.replace(/^unix:\/\//, '');
}

/** Rejects with this code. */
export async function refused(promise: Promise<unknown>, code: number, message: RegExp = /./): Promise<void> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    if (error.code !== code || !message.test(error.message))
      throw new Error(`expected code ${code} and ${message}, got ${error.code}: ${error.message}`);
    return;
  }
  throw new Error(`expected code ${code} and ${message}, got an answer`);
}
