/** wherry.v1.Runtime's unary methods. */
import type {
  ContainerKey,
  ContainerState,
  ExitReason,
  OperationContext,
} from '../../src/container/types.ts';
import * as wherry from '../gen/wherry/v1/runtime.ts';
import type { ShimRuntime } from '../runtime.ts';
import { type CallContext, type MethodTable, unary } from '../ttrpc/service.ts';

const statuses: Readonly<Record<ContainerState['status'], wherry.ContainerStatus>> = {
  creating: wherry.ContainerStatus.CONTAINER_STATUS_CREATING,
  created: wherry.ContainerStatus.CONTAINER_STATUS_CREATED,
  running: wherry.ContainerStatus.CONTAINER_STATUS_RUNNING,
  pausing: wherry.ContainerStatus.CONTAINER_STATUS_PAUSING,
  paused: wherry.ContainerStatus.CONTAINER_STATUS_PAUSED,
  stopped: wherry.ContainerStatus.CONTAINER_STATUS_STOPPED,
};

export function createRuntimeService(runtime: ShimRuntime, version: string): MethodTable {
  return {
    ListContainers: unary({
      request: wherry.ListContainersRequest,
      response: wherry.ListContainersResponse,
      handle: async ({ namespace }) => ({
        containers: runtime.list(namespace === '' ? {} : { namespace }).map(toMessage),
      }),
    }),
    AddMounts: unary({
      request: wherry.AddMountsRequest,
      response: wherry.AddMountsResponse,
      handle: async ({ id, namespace, mounts }, call) => {
        const wanted = mounts.map(({ destination, type, source, options }) => ({
          destination,
          ...(type !== '' && { type }),
          ...(source !== '' && { source }),
          options,
        }));
        await runtime.addMounts(keyOf(id, namespace, call), wanted, operationOf(call));
        return {};
      },
    }),
    RemoveMounts: unary({
      request: wherry.RemoveMountsRequest,
      response: wherry.RemoveMountsResponse,
      handle: async ({ id, namespace, destinations }, call) => {
        await runtime.removeMounts(keyOf(id, namespace, call), destinations, operationOf(call));
        return {};
      },
    }),
    Version: unary({
      request: wherry.VersionRequest,
      response: wherry.VersionResponse,
      handle: async () => ({ version, node: process.version, pid: process.pid }),
    }),
  };
}

function keyOf(id: string, namespace: string, call: CallContext): ContainerKey {
  return { scope: call.scope, namespace: namespace === '' ? call.namespace : namespace, id };
}

function operationOf({ requestId, signal }: CallContext): OperationContext {
  return { requestId, signal };
}

const reasons: Readonly<Record<ExitReason, wherry.ExitReason>> = {
  exited: wherry.ExitReason.EXIT_REASON_EXITED,
  signaled: wherry.ExitReason.EXIT_REASON_SIGNALED,
  'core-dumped': wherry.ExitReason.EXIT_REASON_CORE_DUMPED,
  'oom-killed': wherry.ExitReason.EXIT_REASON_OOM_KILLED,
  seccomp: wherry.ExitReason.EXIT_REASON_SECCOMP,
};

function toMessage(state: ContainerState): wherry.Container {
  const { key, status, pid, bundle, createdAt, exit } = state;
  return {
    id: key.id,
    namespace: key.namespace,
    owner: key.scope,
    status: statuses[status],
    pid,
    bundle,
    createdAt,
    exit: exit && {
      status: exit.exitStatus,
      exitedAt: exit.exitedAt,
      reason: exit.reason === undefined ? wherry.ExitReason.EXIT_REASON_UNSPECIFIED : reasons[exit.reason],
      signal: exit.signal ?? 0,
    },
    oomKills: BigInt(state.oomKills),
    oomCgroup: state.oomCgroup ?? '',
  };
}
