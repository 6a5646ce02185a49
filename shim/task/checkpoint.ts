/** containerd's Checkpoint, and Create from an image, in the words of the runtime core. */
import { join } from 'node:path';
import type { CgroupsModeName } from '../../src/container/criu/message.ts';
import type { CheckpointOptions, RestoreOptions } from '../../src/container/criu/options.ts';
import { WherryError } from '../../src/errors.ts';
import { CLONE_NEWNET } from '../../src/linux/constants.ts';
import type { Options } from '../gen/containerd/runc/v1/oci.ts';
import type { CheckpointTaskRequest } from '../gen/containerd/task/v2/shim.ts';
import { parseCheckpointOptions } from './options.ts';

const modes: readonly string[] = ['soft', 'full', 'strict', 'ignore'] satisfies CgroupsModeName[];

/** @param work where criu writes its log when the caller names no folder: in the bundle, as the Go shim */
export function checkpointOptions(request: CheckpointTaskRequest, bundle: string): CheckpointOptions {
  const options = parseCheckpointOptions(request.options);
  const path = request.path === '' ? options.imagePath : request.path;
  if (!path.startsWith('/')) throw invalid('path', path, 'expected an absolute path');
  const { cgroupsMode } = options;
  if (cgroupsMode !== '' && !modes.includes(cgroupsMode))
    throw invalid('options.cgroups_mode', cgroupsMode, `expected one of ${modes.join(', ')}`);
  for (const name of options.emptyNamespaces) {
    if (name !== 'network') throw invalid('options.empty_namespaces', name, 'expected network');
  }
  return {
    imagesDir: path,
    workDir: options.workPath === '' ? join(bundle, 'criu-work') : options.workPath,
    leaveRunning: !options.exit,
    tcpEstablished: options.openTcp,
    extUnixSk: options.externalUnixSockets,
    shellJob: options.terminal,
    fileLocks: options.fileLocks,
    ...(options.emptyNamespaces.length > 0 && { emptyNamespaces: CLONE_NEWNET }),
    ...(cgroupsMode !== '' && { cgroupsMode: cgroupsMode as CgroupsModeName }),
    ...(options.parentPath !== '' && { parentPath: options.parentPath }),
  };
}

/** undefined: a container that begins at its beginning. Start restores it: containerd fills its root filesystem before that. */
export function restoreOptions(
  checkpoint: string,
  { criuWorkPath }: Options,
): (RestoreOptions & { atStart: true }) | undefined {
  if (checkpoint === '') return undefined;
  if (!checkpoint.startsWith('/')) throw invalid('checkpoint', checkpoint, 'expected an absolute path');
  return { imagesDir: checkpoint, atStart: true, ...(criuWorkPath !== '' && { workDir: criuWorkPath }) };
}

function invalid(path: string, value: string, expected: string): WherryError {
  return new WherryError('invalid-argument', `${path}: ${expected}, found ${JSON.stringify(value)}`, {
    path,
  });
}
