/** A runtime event as the envelope that containerd's Events/Forward takes. */
import type { RuntimeEvent } from '../../src/container/types.ts';
import {
  TaskCheckpointed,
  TaskCreate,
  TaskDelete,
  TaskExecAdded,
  TaskExecStarted,
  TaskExit,
  TaskOOM,
  TaskPaused,
  TaskResumed,
  TaskStart,
} from '../gen/containerd/events/task.ts';
import { Envelope } from '../gen/containerd/services/events/ttrpc/v1/events.ts';
import type { Codec } from '../ttrpc/service.ts';

/** An event as it is written down and sent: encoded once. */
export interface EncodedEvent {
  namespace: string;
  topic: string;
  /** The Envelope. */
  bytes: Uint8Array;
}

export function encodeEvent(event: RuntimeEvent, timestamp: Date): EncodedEvent {
  const envelope = envelopeOf(event, timestamp);
  const { namespace, topic } = envelope;
  return { namespace, topic, bytes: Envelope.encode(envelope).finish() };
}

export function decodeEvent(bytes: Uint8Array): EncodedEvent {
  const { namespace, topic } = Envelope.decode(bytes);
  return { namespace, topic, bytes };
}

export function envelopeOf(event: RuntimeEvent, timestamp: Date): Envelope {
  const { key, pid, bundle, stdio } = event.state;
  const containerId = key.id;
  const envelope = <T>(topic: string, name: string, codec: Codec<T>, message: T): Envelope => ({
    timestamp,
    namespace: key.namespace,
    topic,
    event: { typeUrl: `containerd.events.${name}`, value: Buffer.from(codec.encode(message).finish()) },
  });
  switch (event.type) {
    case 'created':
      return envelope('/tasks/create', 'TaskCreate', TaskCreate, {
        containerId,
        bundle,
        rootfs: event.rootfsMounts,
        io: stdio,
        checkpoint: event.checkpoint ?? '',
        pid,
      });
    case 'started':
      return envelope('/tasks/start', 'TaskStart', TaskStart, { containerId, pid });
    case 'exited': {
      const { exitStatus, exitedAt } = event.exit;
      return envelope('/tasks/exit', 'TaskExit', TaskExit, {
        containerId,
        id: containerId,
        pid: event.exit.pid,
        exitStatus,
        exitedAt,
      });
    }
    case 'deleted': {
      const { exitStatus, exitedAt } = event.exit;
      return envelope('/tasks/delete', 'TaskDelete', TaskDelete, {
        containerId,
        pid: event.exit.pid,
        exitStatus,
        exitedAt,
        id: '',
      });
    }
    case 'oom':
      return envelope('/tasks/oom', 'TaskOOM', TaskOOM, { containerId });
    case 'paused':
      return envelope('/tasks/paused', 'TaskPaused', TaskPaused, { containerId });
    case 'resumed':
      return envelope('/tasks/resumed', 'TaskResumed', TaskResumed, { containerId });
    case 'checkpointed':
      return envelope('/tasks/checkpointed', 'TaskCheckpointed', TaskCheckpointed, {
        containerId,
        checkpoint: event.path,
      });
    case 'execAdded': {
      const { execId } = event.exec;
      return envelope('/tasks/exec-added', 'TaskExecAdded', TaskExecAdded, { containerId, execId });
    }
    case 'execStarted':
      return envelope('/tasks/exec-started', 'TaskExecStarted', TaskExecStarted, {
        containerId,
        execId: event.exec.execId,
        pid: event.exec.pid,
      });
    case 'execExited': {
      const { exitStatus, exitedAt } = event.exit;
      return envelope('/tasks/exit', 'TaskExit', TaskExit, {
        containerId,
        id: event.exec.execId,
        pid: event.exit.pid,
        exitStatus,
        exitedAt,
      });
    }
  }
}
