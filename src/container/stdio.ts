/**
 * Where a container's standard streams go when containerd names them: '' is /dev/null, a FIFO goes straight to the container,
 * `file://` and plain files are opened for appending (shim contract section 6).
 */
import { stat } from 'node:fs/promises';
import { WherryError } from '../errors.ts';
import type { StdioPaths } from './types.ts';

export type StreamTarget =
  | { type: 'null' }
  | { type: 'fifo'; path: string }
  | { type: 'file'; path: string; create: boolean };

export type StdioPlan =
  /** The caller's own descriptors 0-2. */
  { kind: 'inherit' } | { kind: 'paths'; stdin: StreamTarget; stdout: StreamTarget; stderr: StreamTarget };

export async function planStdio(stdio: StdioPaths): Promise<StdioPlan> {
  if (stdio.terminal) {
    throw new WherryError('unimplemented', 'terminal: a terminal over containerd is not supported yet', {
      path: 'terminal',
      hint: 'run without -t, or use `wherry run`',
    });
  }
  const [stdin, stdout, stderr] = await Promise.all([
    planStream('stdin', stdio.stdin),
    planStream('stdout', stdio.stdout),
    planStream('stderr', stdio.stderr),
  ]);
  return { kind: 'paths', stdin, stdout, stderr };
}

async function planStream(field: string, target: string): Promise<StreamTarget> {
  if (target === '') return { type: 'null' };
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(target)?.[1]?.toLowerCase();
  if (scheme === 'file') return { type: 'file', path: new URL(target).pathname, create: true };
  if (scheme !== undefined && scheme !== 'fifo') {
    throw new WherryError(
      'unimplemented',
      `${field}: streams of the scheme ${scheme}:// are not supported yet`,
      {
        path: field,
        hint: 'use a FIFO or file://',
      },
    );
  }
  const path = scheme === 'fifo' ? new URL(target).pathname : target;
  try {
    const found = await stat(path);
    return found.isFIFO() ? { type: 'fifo', path } : { type: 'file', path, create: false };
  } catch (error) {
    throw new WherryError(
      'invalid-argument',
      `${field}: ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        path: field,
        cause: error,
      },
    );
  }
}
