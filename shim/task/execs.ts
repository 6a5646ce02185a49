/**
 * The task service's part for execs: what a request with an exec id means, and how an exec is made. Codes and texts are those
 * that containerd, docker and CRI look for (shim contract 4.3). Nothing here knows sockets or frames.
 */
import type { ContainerState, ExecState, OperationContext } from '../../src/container/types.ts';
import { WherryError } from '../../src/errors.ts';
import { parseJson } from '../../src/oci/json.ts';
import { checkProcess } from '../../src/oci/parts.ts';
import { ProcessDetails } from '../gen/containerd/runc/v1/oci.ts';
import type * as task from '../gen/containerd/task/v2/shim.ts';
import type { ProcessInfo } from '../gen/containerd/v1/types/task.ts';
import type { Empty } from '../gen/google/protobuf/empty.ts';
import type { ShimRuntime } from '../runtime.ts';
import type { CallContext } from '../ttrpc/service.ts';
import { requireName } from './names.ts';
import { execResponse, NOT_EXITED } from './states.ts';

/** A bare name without a slash, as containerd compares it literally. */
const PROCESS_DETAILS = 'containerd.runc.v1.ProcessDetails';

export interface ExecServiceParts {
  runtime: ShimRuntime;
  /** The container that a request names, or not-found. */
  container(request: { id: string }, context: CallContext): ContainerState;
  operation(context: CallContext): OperationContext;
  prefixed(prefix: string, thrown: unknown, path?: string): WherryError;
}

export type ExecService = ReturnType<typeof createExecService>;

export function createExecService(parts: ExecServiceParts) {
  const { runtime, container, operation, prefixed } = parts;

  function find(
    request: { id: string; execId: string },
    context: CallContext,
  ): ExecState & { of: ContainerState } {
    const of = container(request, context);
    const found = runtime.listExecs(of.key).find(({ execId }) => execId === request.execId);
    if (found === undefined) {
      throw new WherryError('not-found', `exec_id: process does not exist ${request.execId}`, {
        path: 'exec_id',
      });
    }
    return { ...found, of };
  }

  return {
    async add(request: task.ExecProcessRequest, context: CallContext): Promise<Empty> {
      const { key } = container(request, context);
      const execId = requireName('exec_id', request.execId);
      const { stdin, stdout, stderr, terminal } = request;
      const raw = parseJson(request.spec?.value ?? new Uint8Array(), 'spec');
      if (typeof raw !== 'object' || raw === null) {
        throw new WherryError('invalid-argument', 'spec: is no process', { path: 'spec' });
      }
      // As with containerd's own shim the request says whether there is a terminal.
      const { process } = checkProcess({ ...raw, terminal }, 'spec');
      await runtime.exec(
        { key, execId, process, stdio: { stdin, stdout, stderr, terminal } },
        operation(context),
      );
      return {};
    },

    async start(request: task.StartRequest, context: CallContext): Promise<task.StartResponse> {
      const { key, execId } = find(request, context);
      try {
        return { pid: (await runtime.startExec(key, execId, operation(context))).pid };
      } catch (thrown) {
        throw prefixed('OCI runtime exec failed', thrown, 'exec_id');
      }
    },

    async state(request: task.StateRequest, context: CallContext): Promise<task.StateResponse> {
      const { of, ...exec } = find(request, context);
      return execResponse(of, exec);
    },

    async kill(request: task.KillRequest, context: CallContext): Promise<Empty> {
      const { key, execId } = find(request, context);
      await runtime.killExec(key, execId, request.signal);
      return {};
    },

    async remove(request: task.DeleteRequest, context: CallContext): Promise<task.DeleteResponse> {
      const { key, execId, exit } = find(request, context);
      const { pid, exitStatus, exitedAt } = await runtime.deleteExec(key, execId);
      // It never ran.
      if (exit === undefined) return { pid: 0, exitStatus: 0, exitedAt: NOT_EXITED };
      return { pid, exitStatus, exitedAt };
    },

    async wait(request: task.WaitRequest, context: CallContext): Promise<task.WaitResponse> {
      const { key, execId } = find(request, context);
      const { exitStatus, exitedAt } = await runtime.waitExec(key, execId, operation(context));
      return { exitStatus, exitedAt };
    },

    async closeIo(request: task.CloseIORequest, context: CallContext): Promise<Empty> {
      const { key, execId } = find(request, context);
      if (request.stdin) await runtime.closeExecStdin(key, execId);
      return {};
    },

    async resize(request: task.ResizePtyRequest, context: CallContext): Promise<Empty> {
      const { key, execId } = find(request, context);
      await runtime.resize(key, execId, request.height, request.width);
      return {};
    },

    /** Each pid, and of an exec its id. */
    describe({ key }: ContainerState, pids: readonly number[]): ProcessInfo[] {
      const ids = new Map(runtime.listExecs(key).map(({ pid, execId }) => [pid, execId]));
      return pids.map((pid) => {
        const execId = ids.get(pid);
        if (execId === undefined) return { pid };
        const value = Buffer.from(ProcessDetails.encode({ execId }).finish());
        return { pid, info: { typeUrl: PROCESS_DETAILS, value } };
      });
    },
  };
}

/** One method of the task service for inits and for execs. */
export function byExecId<Request extends { execId: string }, Response>(
  init: (request: Request, context: CallContext) => Promise<Response>,
  exec: (request: Request, context: CallContext) => Promise<Response>,
): (request: Request, context: CallContext) => Promise<Response> {
  return (request, context) => (request.execId === '' ? init : exec)(request, context);
}
