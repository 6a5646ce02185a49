/** What containerd's side needs of the runtime core. */
import type { ContainerRuntime } from '../src/container/types.ts';

export type ShimRuntime = Pick<
  ContainerRuntime,
  | 'create'
  | 'start'
  | 'find'
  | 'list'
  | 'kill'
  | 'delete'
  | 'wait'
  | 'pids'
  | 'closeStdin'
  | 'resize'
  | 'stats'
  | 'onEvent'
  | 'pause'
  | 'resume'
  | 'checkpoint'
  | 'update'
  | 'addMounts'
  | 'removeMounts'
  | 'exec'
  | 'startExec'
  | 'waitExec'
  | 'killExec'
  | 'deleteExec'
  | 'closeExecStdin'
  | 'listExecs'
  | 'removeForeign'
  | 'keelName'
>;
