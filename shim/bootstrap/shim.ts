/**
 * What `containerd-shim-wherry-v1` does when containerd executes it: start, delete, -info, -v. The native client carries words and
 * answers; the decisions are here. Whatever is printed is part of the contract: a success prints its answer and nothing else.
 */
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ClientSession } from '../../src/cli/session.ts';
import type { ExitInfo } from '../../src/container/types.ts';
import { WherryError } from '../../src/errors.ts';
import { boundary } from '../../src/fault.ts';
import { readSmallFile } from '../../src/linux/small-file.ts';
import { DeleteResponse } from '../gen/containerd/task/v2/shim.ts';
import { RuntimeInfo } from '../gen/containerd/types/introspection.ts';
import { Any } from '../gen/google/protobuf/any.ts';
import type { Logger } from '../log.ts';
import type { ShimRuntime } from '../runtime.ts';
import { readInitPid, readRoot } from '../task/bundle-files.ts';
import { requireName } from '../task/names.ts';
import { parseOptions, requireOwnBinary } from '../task/options.ts';
import type { TaskService } from '../task/service.ts';
import {
  addressFile,
  type Caller,
  callerOf,
  type Endpoint,
  encodeAnswer,
  groupOf,
  groupSocketPath,
  parseBootstrap,
  SOCKET_DIR,
} from './address.ts';
import { parseShimFlags, type ShimFlags } from './flags.ts';
import type { Groups } from './groups.ts';
import { probe } from './probe.ts';

export interface ShimDependencies {
  runtime: ShimRuntime;
  groups: Groups;
  tasks: Pick<TaskService, 'deleted'>;
  log: Logger;
  runDir: string;
  /** What containerd is told to dial; it can take gRPC only in version 1.7. */
  protocol: 'ttrpc' | 'grpc';
  version: string;
  revision: string;
  /** The OCI features document. */
  features(): Record<string, unknown>;
  /** The container's log lines go to this FIFO of its bundle too. */
  addLog?(key: { namespace: string; id: string }, fifo: string): void;
  removeLog?(key: { namespace: string; id: string }): void;
}

const RUNTIME_NAME = 'io.containerd.wherry.v1';
const FEATURES_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/features/Features';
const EADDRINUSE = 98;
/** containerd kills `delete` after 5 s. */
const DELETE_MS = 4000;
const KILLED = 137;
/** containerd 1.6 waits as long for output; the others have the core's own time. */
const OLD_DRAIN_MS = 2000;

/** Serves one call; never rejects. */
export async function runShim(session: ClientSession, dependencies: ShimDependencies): Promise<void> {
  const { argv } = session.request;
  try {
    boundary('shim', argv.at(-1));
    const flags = parseShimFlags(argv.slice(1));
    if (flags.version) {
      session.out(1, versionText(basename(argv[0] ?? ''), dependencies));
    } else if (flags.info) {
      session.out(1, RuntimeInfo.encode(await info(session, dependencies)).finish());
    } else if (flags.action === 'start') {
      session.out(1, await start(session, flags, dependencies));
    } else if (flags.action === 'delete') {
      const response = await remove(session, flags, dependencies);
      if (response !== undefined) session.out(1, DeleteResponse.encode(response).finish());
    } else {
      throw new WherryError('invalid-argument', `unknown action ${JSON.stringify(flags.action)}`, {
        hint: 'this program is executed by containerd with start or delete',
      });
    }
    session.exit(0);
  } catch (thrown) {
    const error = WherryError.from(thrown);
    dependencies.log.error('a call of the shim failed', { error: error.describe() });
    session.out(2, `${error.describe()}\n`);
    session.exit(1);
  }
}

function versionText(program: string, { version, revision }: ShimDependencies): string {
  return `${program}:\n  Version:  ${version}\n  Revision: ${revision}\n  Node version: ${process.version}\n`;
}

async function info(session: ClientSession, dependencies: ShimDependencies): Promise<RuntimeInfo> {
  const stdin = await readStdin(session);
  let options: Any | undefined;
  try {
    options = stdin.length === 0 ? undefined : Any.decode(stdin);
  } catch (cause) {
    throw new WherryError('invalid-argument', 'standard input is not a google.protobuf.Any', { cause });
  }
  requireOwnBinary(parseOptions(options));
  return {
    name: RUNTIME_NAME,
    version: { version: dependencies.version, revision: dependencies.revision },
    options,
    features: { typeUrl: FEATURES_TYPE, value: Buffer.from(JSON.stringify(dependencies.features())) },
    annotations: {},
  };
}

/** A person at a terminal is not waited for. */
async function readStdin(session: ClientSession): Promise<Buffer> {
  return session.request.isTerminal[0] ? Buffer.alloc(0) : session.readStdin();
}

async function start(
  session: ClientSession,
  flags: ShimFlags,
  dependencies: ShimDependencies,
): Promise<string | Uint8Array> {
  const { cwd } = session.request;
  const id = requireName('-id', flags.id);
  const namespace = requireName('-namespace', flags.namespace);
  if (flags.address === '')
    throw new WherryError('invalid-argument', '-address: must not be empty', { path: '-address' });
  const address = new AddressFile(cwd);
  try {
    const { caller, endpoint } = await listen(session, { ...flags, id, namespace }, dependencies, address);
    await address.keep(addressFile(endpoint));
    dependencies.addLog?.({ namespace, id }, join(cwd, 'log'));
    dependencies.log.debug('shim started', { namespace, id, caller, address: endpoint.address });
    return encodeAnswer(caller, endpoint);
  } catch (thrown) {
    await address.drop();
    throw thrown;
  }
}

/** The group's socket, ours or that of another shim. */
async function listen(
  session: ClientSession,
  { id, namespace, address: scope }: ShimFlags,
  dependencies: ShimDependencies,
  address: AddressFile,
): Promise<{ caller: Caller; endpoint: Endpoint }> {
  const { cwd, env } = session.request;
  const [stdin, config] = await Promise.all([
    readStdin(session),
    // A sandbox's bundle has none.
    readSmallFile(join(cwd, 'config.json')).catch(() => Buffer.alloc(0)),
  ]);
  const params = parseBootstrap(stdin, id, namespace);
  const caller = callerOf(params, env);
  const group = groupOf(config.toString('utf8'), id);
  const grpc = dependencies.protocol === 'grpc' && caller === 'json';
  if (dependencies.protocol === 'grpc') {
    dependencies.log.warn(
      grpc
        ? 'containerd is told to use gRPC: it loses the container when wherryd restarts or after 30 idle minutes'
        : 'this containerd cannot use gRPC; it gets ttrpc',
      { namespace, id },
    );
  }
  const path = groupSocketPath(socketDir(params?.socketDir, dependencies.runDir), scope, namespace, group);
  const options = {
    scope,
    namespace,
    group,
    ttrpcAddress: params?.containerdTtrpcAddress || env['TTRPC_ADDRESS'] || `${scope}.ttrpc`,
    socketPath: grpc ? '' : path,
    ...(caller === 'address' && { drainMs: OLD_DRAIN_MS }),
    ...((env['SCHED_CORE'] ?? '') !== '' && { schedCore: true }),
  };
  const endpoint: Endpoint = grpc
    ? { version: 2, address: join(dependencies.runDir, 'grpc.sock'), protocol: 'grpc' }
    : { version: 2, address: `unix://${path}`, protocol: 'ttrpc' };
  address.write(addressFile(endpoint));
  try {
    await dependencies.groups.open(options, id);
    return { caller, endpoint };
  } catch (thrown) {
    if (WherryError.from(thrown).details.errno !== EADDRINUSE) throw thrown;
    // Another shim serves this pod already: containerd shall talk to that one.
    return { caller, endpoint: { ...endpoint, version: await probe(path, id) } };
  }
}

function socketDir(given: string | undefined, runDir: string): string {
  if (given !== undefined && given !== '') return given;
  return process.geteuid?.() === 0 ? SOCKET_DIR : join(runDir, 's');
}

/** The bundle's `address`: made under another name while the socket is, and there as a whole when that is done. */
class AddressFile {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: Promise<FileHandle>;
  #written: Promise<unknown> | undefined;
  #text = '';

  constructor(bundle: string) {
    this.#path = join(bundle, 'address');
    this.#temporary = join(bundle, '.address.wherry');
    this.#file = open(this.#temporary, 'w', 0o600);
    // Whoever waits for it hears of the failure.
    this.#file.catch(() => {});
  }

  write(text: string): void {
    this.#text = text;
    this.#written = this.#file.then((file) => file.write(text, 0));
    this.#written.catch(() => {});
  }

  async keep(text: string): Promise<void> {
    const file = await this.#file;
    await this.#written;
    if (text !== this.#text) {
      await file.truncate();
      await file.write(text, 0);
    }
    boundary('address written');
    await rename(this.#temporary, this.#path);
    boundary('address');
    // Nothing depends on its end.
    file.close().catch(() => {});
  }

  async drop(): Promise<void> {
    const file = await this.#file.catch(() => undefined);
    await this.#written?.catch(() => {});
    await Promise.all([file?.close(), unlink(this.#temporary)]).catch(() => {});
  }
}

/**
 * Whatever is left of a container goes, and missing things are no error: containerd calls this on each removal. undefined: the
 * container lives on and nothing is reported.
 */
async function remove(
  session: ClientSession,
  flags: ShimFlags,
  dependencies: ShimDependencies,
): Promise<DeleteResponse | undefined> {
  const { runtime, groups, tasks, log } = dependencies;
  const id = requireName('-id', flags.id);
  const namespace = requireName('-namespace', flags.namespace);
  const { cwd } = session.request;
  const scope = flags.address;
  const key = { scope, namespace, id };
  const alive = runtime.find(key);
  if (alive !== undefined && alive.status !== 'stopped' && groups.overGrpc(scope, namespace, id)) {
    log.warn('containerd lost its gRPC connection to a live container; the container is left alone', {
      namespace,
      id,
    });
    return undefined;
  }
  let exit: ExitInfo | undefined = tasks.deleted(key);
  if (alive !== undefined) {
    try {
      exit = await withDeadline(runtime.delete(key, true, { requestId: 'delete' }), DELETE_MS);
    } catch (thrown) {
      const error = WherryError.from(thrown);
      if (error.kind !== 'not-found')
        log.error('cannot remove a container', { namespace, id, error: error.describe() });
    }
  }
  const bundle = flags.bundle !== '' ? flags.bundle : join(dirname(cwd), id);
  if (alive === undefined && exit === undefined) await removeOfGo(bundle, namespace, id, dependencies);
  const pid = exit?.pid || alive?.pid || (await readInitPid(bundle));
  await groups.left(scope, namespace, id);
  dependencies.removeLog?.({ namespace, id });
  return { pid, exitStatus: exit?.exitStatus ?? KILLED, exitedAt: exit?.exitedAt ?? new Date() };
}

/** The bundle may be that of containerd's own shim, whose runc has made a container. */
async function removeOfGo(
  bundle: string,
  namespace: string,
  id: string,
  { runtime, log }: ShimDependencies,
): Promise<void> {
  const root = await readRoot(bundle);
  try {
    const removal = runtime.removeForeign(join(root, namespace, id), bundle);
    if (await withDeadline(removal, DELETE_MS)) log.info('removed a container of runc', { namespace, id });
  } catch (thrown) {
    log.error('cannot remove a container of runc', {
      namespace,
      id,
      error: WherryError.from(thrown).describe(),
    });
  }
}

async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new WherryError('deadline-exceeded', `no end within ${ms} ms`)), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
