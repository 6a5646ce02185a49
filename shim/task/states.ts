/** Answers to State, for inits and for execs. */
import type { ContainerState, ExecState } from '../../src/container/types.ts';
import type { StateResponse } from '../gen/containerd/task/v2/shim.ts';
import { Status } from '../gen/containerd/v1/types/task.ts';

/** Go's zero time: "has not exited". */
export const NOT_EXITED = new Date(-62_135_596_800_000);

const ofContainer: Readonly<Record<ContainerState['status'], Status>> = {
  creating: Status.UNKNOWN,
  created: Status.CREATED,
  running: Status.RUNNING,
  pausing: Status.PAUSING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
};

const ofExec: Readonly<Record<ExecState['status'], Status>> = {
  created: Status.CREATED,
  running: Status.RUNNING,
  stopped: Status.STOPPED,
};

export function containerResponse({ key, bundle, pid, status, stdio, exit }: ContainerState): StateResponse {
  return {
    id: key.id,
    bundle,
    pid,
    status: ofContainer[status],
    ...stdio,
    exitStatus: exit?.exitStatus ?? 0,
    exitedAt: exit?.exitedAt ?? NOT_EXITED,
    execId: '',
  };
}

export function execResponse(
  of: ContainerState,
  { execId, pid, status, stdio, exit }: ExecState,
): StateResponse {
  const frozen = of.status === 'paused' || of.status === 'pausing';
  return {
    // As Go's shim answers: the process's own id, and no exec_id.
    id: execId,
    bundle: of.bundle,
    pid,
    status: frozen && status === 'running' ? ofContainer[of.status] : ofExec[status],
    ...stdio,
    exitStatus: exit?.exitStatus ?? 0,
    exitedAt: exit?.exitedAt ?? NOT_EXITED,
    execId: '',
  };
}
