/**
 * containerd's task service, once for every transport and for versions 2 and 3. Here a request becomes a call of the runtime
 * core and its answer a message; texts and codes are those that containerd, docker and CRI look for. No mounts, no processes, no sockets.
 */
import { keyName } from '../../src/container/key.ts';
import type { ContainerKey, ContainerState, ExitInfo, OperationContext } from '../../src/container/types.ts';
import { type ErrorKind, WherryError } from '../../src/errors.ts';
import { parseResources } from '../../src/oci/parts.ts';
import * as task from '../gen/containerd/task/v2/shim.ts';
import { Empty } from '../gen/google/protobuf/empty.ts';
import type { Logger } from '../log.ts';
import type { ShimRuntime } from '../runtime.ts';
import { type CallContext, type MethodTable, type UnaryMethod, unary } from '../ttrpc/service.ts';
import { bundleFiles, initPidPath } from './bundle-files.ts';
import { checkpointOptions, restoreOptions } from './checkpoint.ts';
import { DeletedTasks } from './deleted.ts';
import { byExecId, createExecService } from './execs.ts';
import { encodeMetrics, statsResponse } from './metrics.ts';
import { requireName } from './names.ts';
import {
  type GroupSettings,
  parseOptions,
  processSettings,
  requireOwnBinary,
  stateDirOf,
} from './options.ts';
import { containerResponse } from './states.ts';

export type TaskCaller = Pick<CallContext, 'listenerId' | 'scope' | 'namespace'>;

/** What the service tells the sockets' keeper about containers. */
export interface TaskGroups {
  /** A container is about to be made. Returns the text for the bundle's `address` file, or ''. */
  joined(caller: TaskCaller, id: string): string;
  /** What `start` was told for the containers of this group. */
  settings(caller: TaskCaller, id: string): GroupSettings;
  /** Its create has failed. */
  failed(caller: TaskCaller, id: string): void;
  /** containerd no longer needs the listener; it goes when its last container has gone. */
  shutdown(listenerId: bigint): void;
}

export interface TaskServiceOptions {
  runtime: ShimRuntime;
  groups: TaskGroups;
  log: Logger;
  version: string;
  /** What Connect gives as the shim's pid. */
  shimPid: number;
  /** Containers whose Delete an earlier wherryd may have left unanswered. */
  deleted?: readonly { key: ContainerKey; exit: ExitInfo }[];
}

export interface TaskService {
  methods: MethodTable;
  /** Exit data of a container that Delete has removed a short while ago. */
  deleted(key: ContainerKey): ExitInfo | undefined;
}

const MAX_SIGNAL = 64;
/** Rows and columns are unsigned short in struct winsize. */
const MAX_TERMINAL_SIDE = 65535;

export function createTaskService(options: TaskServiceOptions): TaskService {
  const { runtime, groups, log } = options;
  const deleted = new DeletedTasks();
  for (const { key, exit } of options.deleted ?? []) deleted.restore(keyName(key), exit);

  /** The container that a request names; not-found for one that is not there yet. */
  function lookup(request: { id: string }, context: CallContext): ContainerState {
    const key = keyOf(request.id, context);
    const state = runtime.find(key);
    if (state === undefined || state.status === 'creating') throw notCreated(key.id);
    return state;
  }

  const execs = createExecService({
    runtime,
    container: lookup,
    operation,
    prefixed,
  });

  async function create(
    request: task.CreateTaskRequest,
    context: CallContext,
  ): Promise<task.CreateTaskResponse> {
    const key = keyOf(request.id, context);
    if (!request.bundle.startsWith('/')) {
      throw new WherryError(
        'invalid-argument',
        `bundle: ${JSON.stringify(request.bundle)} is not an absolute path`,
        {
          path: 'bundle',
          hint: 'set it to the folder that holds config.json',
        },
      );
    }
    const parsed = parseOptions(request.options);
    const restore = restoreOptions(request.checkpoint, parsed);
    requireOwnBinary(parsed);
    for (const [index, mount] of request.rootfs.entries()) {
      const foreign = mount.options.find((option) => option.startsWith('X-containerd.'));
      if (foreign !== undefined) {
        throw new WherryError(
          'invalid-argument',
          `rootfs[${index}].options: ${foreign} is for containerd itself`,
          {
            path: `rootfs[${index}].options`,
          },
        );
      }
    }
    deleted.forget(keyName(key));
    const ofContainerd = context.scope !== '';
    const address = groups.joined(context, key.id);
    const group = groups.settings(context, key.id);
    const { stdin, stdout, stderr, terminal, bundle } = request;
    try {
      const state = await runtime.create(
        {
          key,
          bundle,
          rootfsMounts: request.rootfs.map(({ type, source, target, options: words }) => ({
            type,
            source,
            target,
            options: words,
          })),
          stdio: { stdin, stdout, stderr, terminal },
          settings: processSettings(parsed, group),
          ...(group.schedCoreWith !== undefined && { schedCoreWith: group.schedCoreWith }),
          ...stateDirOf(parsed, key),
          noPivotRoot: parsed.noPivotRoot,
          noNewKeyring: parsed.noNewKeyring,
          systemdCgroup: parsed.systemdCgroup,
          ...(restore !== undefined && { restore }),
          // A bundle of another caller is that caller's own: nothing is written into it.
          ...(ofContainerd && { files: bundleFiles(bundle, parsed, address), pidFile: initPidPath(bundle) }),
        },
        operation(context),
      );
      return { pid: state.pid };
    } catch (thrown) {
      groups.failed(context, key.id);
      throw prefixed('OCI runtime create failed', thrown);
    }
  }

  async function start(request: task.StartRequest, context: CallContext): Promise<task.StartResponse> {
    const { key } = lookup(request, context);
    try {
      const { pid } = await runtime.start(key, operation(context));
      return { pid };
    } catch (thrown) {
      throw prefixed('OCI runtime start failed', thrown, 'id');
    }
  }

  async function state(request: task.StateRequest, context: CallContext): Promise<task.StateResponse> {
    return containerResponse(lookup(request, context));
  }

  async function kill(request: task.KillRequest, context: CallContext): Promise<Empty> {
    const { key, status } = lookup(request, context);
    if (request.signal > MAX_SIGNAL) {
      throw new WherryError('invalid-argument', `signal: ${request.signal} is no signal`, {
        path: 'signal',
        hint: `use a number from 0 to ${MAX_SIGNAL}`,
      });
    }
    if (status === 'stopped' && request.all) throw finished(key.id);
    try {
      await runtime.kill(key, request.signal, request.all, operation(context));
    } catch (thrown) {
      const error = WherryError.from(thrown);
      if (/not running|no such process|already finished|does not exist/i.test(error.message))
        throw finished(key.id);
      throw error;
    }
    return {};
  }

  async function remove(request: task.DeleteRequest, context: CallContext): Promise<task.DeleteResponse> {
    const key = keyOf(request.id, context);
    const name = keyName(key);
    if (deleted.get(name) === undefined) lookup(request, context);
    try {
      // Without the caller's signal: a removal that has begun is finished whoever still listens.
      const exit = await deleted.once(name, () =>
        runtime.delete(key, false, { requestId: context.requestId }),
      );
      return { pid: exit.pid, exitStatus: exit.exitStatus, exitedAt: exit.exitedAt };
    } catch (thrown) {
      throw prefixed('failed to delete task', thrown, 'id');
    }
  }

  async function wait(request: task.WaitRequest, context: CallContext): Promise<task.WaitResponse> {
    const { key } = lookup(request, context);
    const { exitStatus, exitedAt } = await runtime.wait(key, operation(context));
    return { exitStatus, exitedAt };
  }

  async function pids(request: task.PidsRequest, context: CallContext): Promise<task.PidsResponse> {
    const found = lookup(request, context);
    return { processes: execs.describe(found, await runtime.pids(found.key)) };
  }

  async function stats(request: task.StatsRequest, context: CallContext): Promise<task.StatsResponse> {
    const { key } = lookup(request, context);
    return { stats: encodeMetrics(await runtime.stats(key)) };
  }

  async function closeIo(request: task.CloseIORequest, context: CallContext): Promise<Empty> {
    const { key } = lookup(request, context);
    if (request.stdin) await runtime.closeStdin(key);
    return {};
  }

  async function resizePty(request: task.ResizePtyRequest, context: CallContext): Promise<Empty> {
    const { key } = lookup(request, context);
    await runtime.resize(key, undefined, request.height, request.width);
    return {};
  }

  const resizeAny = byExecId(resizePty, execs.resize);

  async function resize(request: task.ResizePtyRequest, context: CallContext): Promise<Empty> {
    checkSize(request);
    return resizeAny(request, context);
  }

  async function pause(request: task.PauseRequest, context: CallContext): Promise<Empty> {
    const { key } = lookup(request, context);
    try {
      await runtime.pause(key, operation(context));
    } catch (thrown) {
      throw prefixed('OCI runtime pause failed', thrown, 'id');
    }
    return {};
  }

  async function resume(request: task.ResumeRequest, context: CallContext): Promise<Empty> {
    const { key } = lookup(request, context);
    try {
      await runtime.resume(key, operation(context));
    } catch (thrown) {
      throw prefixed('OCI runtime resume failed', thrown, 'id');
    }
    return {};
  }

  async function checkpoint(request: task.CheckpointTaskRequest, context: CallContext): Promise<Empty> {
    const { key, bundle } = lookup(request, context);
    try {
      await runtime.checkpoint(key, checkpointOptions(request, bundle), operation(context));
    } catch (thrown) {
      throw prefixed('OCI runtime checkpoint failed', thrown, 'id');
    }
    return {};
  }

  async function update(request: task.UpdateTaskRequest, context: CallContext): Promise<Empty> {
    const { key } = lookup(request, context);
    const { resources } = parseResources(request.resources?.value ?? new Uint8Array(), 'resources');
    for (const warning of await runtime.update(key, resources, operation(context)))
      log.warn(warning, { id: key.id });
    return {};
  }

  function checkSize({ width, height }: task.ResizePtyRequest): void {
    for (const [field, value] of Object.entries({ width, height })) {
      if (value <= MAX_TERMINAL_SIDE) continue;
      throw new WherryError('invalid-argument', `${field}: ${value} is more than ${MAX_TERMINAL_SIDE}`, {
        path: field,
      });
    }
  }

  /** Never fails for an unknown id: containerd asks before there is one. */
  async function connect(request: task.ConnectRequest, context: CallContext): Promise<task.ConnectResponse> {
    const found = runtime.find(keyOf(request.id, context));
    return { shimPid: options.shimPid, taskPid: found?.pid ?? 0, version: options.version };
  }

  async function shutdown(_request: task.ShutdownRequest, context: CallContext): Promise<Empty> {
    groups.shutdown(context.listenerId);
    return {};
  }

  const methods: Record<string, UnaryMethod> = {
    State: unary({
      request: task.StateRequest,
      response: task.StateResponse,
      handle: byExecId(state, execs.state),
    }),
    Create: unary({ request: task.CreateTaskRequest, response: task.CreateTaskResponse, handle: create }),
    Start: unary({
      request: task.StartRequest,
      response: task.StartResponse,
      handle: byExecId(start, execs.start),
    }),
    Delete: unary({
      request: task.DeleteRequest,
      response: task.DeleteResponse,
      handle: byExecId(remove, execs.remove),
    }),
    Pids: unary({ request: task.PidsRequest, response: task.PidsResponse, handle: pids }),
    Pause: unary({ request: task.PauseRequest, response: Empty, handle: pause }),
    Resume: unary({ request: task.ResumeRequest, response: Empty, handle: resume }),
    Checkpoint: unary({ request: task.CheckpointTaskRequest, response: Empty, handle: checkpoint }),
    Kill: unary({ request: task.KillRequest, response: Empty, handle: byExecId(kill, execs.kill) }),
    Exec: unary({ request: task.ExecProcessRequest, response: Empty, handle: execs.add }),
    ResizePty: unary({ request: task.ResizePtyRequest, response: Empty, handle: resize }),
    CloseIO: unary({
      request: task.CloseIORequest,
      response: Empty,
      handle: byExecId(closeIo, execs.closeIo),
    }),
    Update: unary({ request: task.UpdateTaskRequest, response: Empty, handle: update }),
    Wait: unary({
      request: task.WaitRequest,
      response: task.WaitResponse,
      handle: byExecId(wait, execs.wait),
    }),
    Stats: unary({ request: task.StatsRequest, response: statsResponse, handle: stats }),
    Connect: unary({ request: task.ConnectRequest, response: task.ConnectResponse, handle: connect }),
    Shutdown: unary({ request: task.ShutdownRequest, response: Empty, handle: shutdown }),
  };
  return { methods, deleted: (key) => deleted.get(keyName(key)) };
}

function keyOf(id: string, context: CallContext): ContainerKey {
  return {
    scope: context.scope,
    namespace: requireName('namespace', context.namespace),
    id: requireName('id', id),
  };
}

/** The call itself: whoever needs its signal asks for it. */
function operation(context: CallContext): OperationContext {
  return context;
}

function notCreated(id: string): WherryError {
  return new WherryError('not-found', `id ${JSON.stringify(id)}: container not created`, { path: 'id' });
}

function finished(id: string): WherryError {
  return new WherryError('not-found', `id ${JSON.stringify(id)}: process already finished`, { path: 'id' });
}

/** The same kind and details; the runtime's own text stays whole behind the prefix. */
function prefixed(prefix: string, thrown: unknown, path?: string): WherryError {
  const error = WherryError.from(thrown);
  const kind: ErrorKind = error.kind;
  return new WherryError(kind, `${prefix}: ${error.message}`, {
    ...error.details,
    path: error.details.path ?? path,
    cause: error,
  });
}
