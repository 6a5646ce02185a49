/**
 * What keel answers to State while wherryd does not come up: deposited with it for every process that containerd can ask for. Pid, start and
 * exit keel sees itself, so only what it cannot see is deposited anew; a RELEASE ends it.
 */
import { keyName } from '../../src/container/key.ts';
import type { ContainerKey, ContainerState, ExecState, RuntimeEvent } from '../../src/container/types.ts';
import type { Deposit } from '../../src/daemon/keel-link.ts';
import { StateResponse } from '../gen/containerd/task/v2/shim.ts';
import type { ShimRuntime } from '../runtime.ts';
import { containerResponse, execResponse } from './states.ts';

export interface DepositsParts {
  runtime: Pick<ShimRuntime, 'onEvent' | 'listExecs' | 'keelName'>;
  deposit(token: bigint, deposit: Deposit): void;
  /** The listener by which containerd reaches a container; 0n: none. */
  listenerOf(key: ContainerKey): bigint;
}

/** @returns stops it */
export function keepDeposits({ runtime, deposit, listenerOf }: DepositsParts): () => void {
  const listeners = new Map<string, bigint>();

  function put(key: ContainerKey, execId: string | undefined, response: StateResponse, fifo = ''): void {
    const listener = listeners.get(keyName(key));
    if (listener === undefined) return;
    deposit(runtime.keelName(key, execId).token, {
      listener,
      id: key.id,
      execId: execId ?? '',
      status: response.status,
      pid: response.pid,
      fifo,
      state: StateResponse.encode(response).finish(),
    });
  }

  function putExec(state: ContainerState, exec: ExecState): void {
    put(state.key, exec.execId, execResponse(state, exec));
  }

  function putAll(state: ContainerState): void {
    put(state.key, undefined, containerResponse(state), runtime.keelName(state.key).fifo);
    for (const exec of runtime.listExecs(state.key)) putExec(state, exec);
  }

  return runtime.onEvent((event: RuntimeEvent) => {
    const { state } = event;
    switch (event.type) {
      case 'created': {
        // Of the command line's and gRPC's callers nobody asks by ttrpc.
        const listener = state.key.scope === '' ? 0n : listenerOf(state.key);
        if (listener === 0n) return;
        listeners.set(keyName(state.key), listener);
        return putAll(state);
      }
      case 'paused':
      case 'resumed':
        return listeners.has(keyName(state.key)) ? putAll(state) : undefined;
      case 'execAdded':
        return putExec(state, event.exec);
      case 'deleted':
        listeners.delete(keyName(state.key));
        return;
      default:
    }
  });
}
