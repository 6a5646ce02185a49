/**
 * State directories: `<run>/containers/<scope>/<namespace>/<id>/`, or the folder that the caller names (`--root`).
 * The run folder is a tmpfs of our own, so these few small writes are made in place; they never touch a container's files.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { WherryError } from '../errors.ts';
import { ContainerRecord, type StoredContainer } from './record.ts';
import type { ContainerKey } from './types.ts';

/** Folder name of a scope; the empty scope is `local`. */
export function scopeFolder(scope: string): string {
  return scope === '' ? 'local' : createHash('sha256').update(scope).digest('hex').slice(0, 16);
}

export class StateStore {
  readonly #base: string;

  /** `runDir` is the run folder. */
  constructor(runDir: string) {
    this.#base = join(runDir, 'containers');
  }

  directory(key: ContainerKey): string {
    return join(this.#base, scopeFolder(key.scope), key.namespace, key.id);
  }

  /** Makes the state directory; `already-exists` when it is there. */
  claim(dir: string): void {
    try {
      mkdirSync(dirname(dir), { recursive: true, mode: 0o711 });
      mkdirSync(dir, { mode: 0o711 });
    } catch (error) {
      if (errorCode(error) === 'EEXIST') {
        throw new WherryError('already-exists', 'container with given ID already exists', {
          path: 'id',
          hint: `its state is in ${dir}`,
        });
      }
      throw new WherryError('internal', `cannot make the state directory ${dir}: ${String(error)}`, {
        cause: error,
      });
    }
  }

  /** Atomic: a reader sees the old or the new text. */
  save(record: ContainerRecord): void {
    const path = join(record.dir, 'state.json');
    writeFileSync(`${path}.new`, JSON.stringify(record.stored()));
    renameSync(`${path}.new`, path);
  }

  /** After the exec FIFO is gone the container counts as started, also for a wherryd that starts later. */
  removeFifo(record: ContainerRecord): void {
    try {
      unlinkSync(record.fifo);
    } catch {
      // Already gone: nothing to remember.
    }
  }

  hasFifo(record: ContainerRecord): boolean {
    return existsSync(record.fifo);
  }

  remove(dir: string): void {
    rmSync(dir, { recursive: true, force: true });
  }

  /** Every container that an earlier wherryd left in the run folder; damaged entries are reported and skipped. */
  load(onDamaged: (dir: string, error: unknown) => void): ContainerRecord[] {
    const found: ContainerRecord[] = [];
    for (const scope of names(this.#base)) {
      for (const namespace of names(join(this.#base, scope))) {
        for (const id of names(join(this.#base, scope, namespace))) {
          const dir = join(this.#base, scope, namespace, id);
          try {
            found.push(revive(dir, JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8'))));
          } catch (error) {
            onDamaged(dir, error);
          }
        }
      }
    }
    return found;
  }
}

function revive(dir: string, stored: StoredContainer): ContainerRecord {
  const record = new ContainerRecord(stored.key, BigInt(stored.token), dir, stored.bundle, stored.stdio);
  record.status = stored.status;
  record.rootfs = stored.rootfs;
  record.createdAt = new Date(stored.createdAt);
  record.annotations = stored.annotations;
  record.ociVersion = stored.ociVersion;
  record.rootfsMounts = stored.rootfsMounts;
  record.cgroup = stored.cgroup;
  record.exitHeld = false;
  if (stored.pid !== 0) record.noteRegistered(stored.pid, BigInt(stored.startTime));
  if (stored.exit !== undefined) {
    record.noteExit({ ...stored.exit, exitedAt: new Date(stored.exit.exitedAt) });
  }
  return record;
}

function names(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
