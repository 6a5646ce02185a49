/** wherry.v1.Runtime's unary methods. */
import type { ContainerState } from '../../src/container/types.ts';
import * as wherry from '../gen/wherry/v1/runtime.ts';
import type { ShimRuntime } from '../runtime.ts';
import { type MethodTable, unary } from '../ttrpc/service.ts';

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
    Version: unary({
      request: wherry.VersionRequest,
      response: wherry.VersionResponse,
      handle: async () => ({ version, node: process.version, pid: process.pid }),
    }),
  };
}

function toMessage({ key, status, pid, bundle, createdAt, exit }: ContainerState): wherry.Container {
  return {
    id: key.id,
    namespace: key.namespace,
    owner: key.scope,
    status: statuses[status],
    pid,
    bundle,
    createdAt,
    exit: exit && { status: exit.exitStatus, exitedAt: exit.exitedAt },
  };
}
