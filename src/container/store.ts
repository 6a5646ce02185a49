/** State directories: `<run>/containers/<scope>/<namespace>/<id>/`, or the folder that the caller names (`--root`). */
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { WherryError } from '../errors.ts';
import { boundary } from '../fault.ts';
import { execContextFiles } from './exec-context.ts';
import { folderName } from './folder-name.ts';
import { ContainerRecord, type StoredContainer } from './record.ts';
import { readState, writeState } from './state-file.ts';
import type { ContainerKey } from './types.ts';

const STATE_FILE = 'state.json';

/** One for each containerd. */
const scopeFolders = new Map([['', 'local']]);

/** Folder name of a scope; the empty scope is `local`. */
export function scopeFolder(scope: string): string {
  const known = scopeFolders.get(scope);
  if (known !== undefined) return known;
  const name = createHash('sha256').update(scope).digest('hex').slice(0, 16);
  scopeFolders.set(scope, name);
  return name;
}

export class StateStore {
  readonly #base: string;

  /** `runDir` is the run folder. */
  constructor(runDir: string) {
    this.#base = join(runDir, 'containers');
  }

  directory(key: ContainerKey): string {
    return join(this.#base, scopeFolder(key.scope), key.namespace, folderName(key.id));
  }

  /** Makes the state directory; `already-exists` when it is there. One elsewhere gets a link, by which `load` finds it. */
  claim(dir: string, key: ContainerKey): void {
    let made = false;
    try {
      boundary('folder');
      makeFolder(dir);
      made = true;
      boundary('folder made');
      const place = this.directory(key);
      if (dir !== place) link(dir, place);
    } catch (error) {
      if (made) rmSync(dir, { recursive: true, force: true });
      else if (errorCode(error) === 'EEXIST') {
        throw new WherryError('already-exists', 'container with given ID already exists', {
          path: 'id',
          hint: `its state is in ${dir}`,
        });
      }
      const reason = error instanceof Error ? error.message : String(error);
      const full = errorCode(error) === 'ENOSPC';
      const message = `cannot make the state directory ${dir}: ${reason}`;
      throw new WherryError(full ? 'resource-exhausted' : 'internal', message, {
        ...(full && { hint: 'make room in the run folder' }),
        cause: error,
      });
    }
  }

  save(record: ContainerRecord): void {
    try {
      record.statePlace = writeState(
        join(record.dir, STATE_FILE),
        (lasting) => ({ ...record.stored(), ...(lasting !== undefined && { lasting }) }),
        record.execText,
        record.statePlace,
        record.status,
      );
    } catch (cause) {
      throw new WherryError('resource-exhausted', `cannot write ${STATE_FILE}: ${(cause as Error).message}`, {
        hint: /^E[MN]FILE$/.test(errorCode(cause) ?? '')
          ? 'raise the limit of open files'
          : 'make room in the run folder',
        cause,
      });
    }
  }

  /** keel removes it as it lets the init go: without it the container counts as started. */
  hasFifo(record: ContainerRecord): boolean {
    return existsSync(record.fifo);
  }

  remove(dir: string, key: ContainerKey): void {
    const place = this.directory(key);
    if (dir !== place) removeFile(place);
    try {
      for (const name of [STATE_FILE, 'exec.fifo', ...execContextFiles]) {
        boundary('remove', name);
        const file = join(dir, name);
        // Asked first: an error with a stack costs more than the question.
        if (existsSync(file)) removeFile(file);
      }
      boundary('remove', 'folder');
      rmdirSync(dir);
      boundary('removed', 'folder');
    } catch {
      // Something else lies there, or somebody was quicker.
      rmSync(dir, { recursive: true, force: true });
    }
  }

  /** Every container that an earlier wherryd left in the run folder; damaged entries are reported and skipped. With `root` those of that folder. */
  load(onDamaged: (dir: string, error: unknown) => void, root?: string): ContainerRecord[] {
    if (root !== undefined) return this.#loadRoot(root, onDamaged);
    const found: ContainerRecord[] = [];
    for (const scope of names(this.#base)) {
      for (const namespace of names(join(this.#base, scope))) {
        for (const id of names(join(this.#base, scope, namespace))) {
          const place = join(this.#base, scope, namespace, id);
          const dir = behind(place);
          try {
            if (dir === undefined) removeFile(place);
            else found.push(read(dir));
          } catch (error) {
            onDamaged(place, error);
          }
        }
      }
    }
    return found;
  }

  /**
   * A damaged directory goes out of the way, so that its name can be used again. One without a state was made by a create that got no
   * further, so nothing exists but the directory; others are kept for a person to look at.
   */
  setAside(place: string): void {
    const linked = lstatSync(place).isSymbolicLink();
    const dir = behind(place);
    if (linked) removeFile(place);
    if (dir === undefined) return;
    if (readText(join(dir, STATE_FILE)).trim() === '') {
      rmSync(dir, { recursive: true, force: true });
      return;
    }
    const folder = join(this.#base, '..', 'damaged');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // Elsewhere it is its owner's.
    if (!linked) renameSync(dir, join(folder, `${basename(dir)}-${Date.now()}`));
  }

  /** `<root>/<id>/`, as `--root` lays them out. */
  #loadRoot(root: string, onDamaged: (dir: string, error: unknown) => void): ContainerRecord[] {
    return names(root).flatMap((id) => {
      const dir = join(root, id);
      try {
        return [read(dir)];
      } catch (error) {
        onDamaged(dir, error);
        return [];
      }
    });
  }
}

function read(dir: string): ContainerRecord {
  const { state, place } = readState(join(dir, STATE_FILE));
  const record = revive(dir, state as unknown as StoredContainer);
  record.statePlace = place;
  record.execText = place.lasting;
  return record;
}

function revive(dir: string, stored: StoredContainer): ContainerRecord {
  const record = new ContainerRecord(stored.key, BigInt(stored.token), dir, stored.bundle, stored.stdio);
  record.status = stored.status;
  record.complete = stored.status !== 'creating';
  record.createdBy = stored.createdBy ?? '';
  record.boot = BigInt(stored.boot ?? 0);
  record.rootfs = stored.rootfs;
  record.createdAt = new Date(stored.createdAt);
  record.unit = stored.unit;
  record.frozenBy = stored.frozenBy ?? '';
  record.updating = stored.updating;
  record.oomKills = stored.oomKills ?? 0;
  record.oomCgroup = stored.oomCgroup;
  record.deviceRules = stored.deviceRules;
  record.addedMounts = stored.addedMounts ?? [];
  record.annotations = stored.annotations;
  record.command = stored.command ?? '';
  record.ociVersion = stored.ociVersion;
  record.rootfsMounts = stored.rootfsMounts;
  record.resctrl = stored.resctrl;
  if (stored.logger !== undefined) record.logger = BigInt(stored.logger);
  record.cgroup = stored.cgroup;
  record.hooks = stored.hooks;
  record.settings = stored.settings ?? {};
  record.endsAlone = stored.endsAlone === true;
  record.exitHeld = false;
  if (stored.pid !== 0)
    record.noteRegistered(stored.pid, BigInt(stored.startTime), BigInt(stored.pidfdInode ?? 0));
  if (stored.exit !== undefined) {
    record.noteExit({ ...stored.exit, exitedAt: new Date(stored.exit.exitedAt) });
  }
  return record;
}

/** Where a link leads, a folder itself; undefined: the link's folder is gone. */
function behind(place: string): string | undefined {
  try {
    return realpathSync(place);
  } catch {
    return undefined;
  }
}

/** A link that is there already is that of a container whose folder somebody removed. */
function link(dir: string, place: string): void {
  mkdirSync(dirname(place), { recursive: true, mode: 0o711 });
  removeFile(place);
  symlinkSync(dir, place);
}

/** Its parents are there from the second container on. */
function makeFolder(dir: string): void {
  try {
    mkdirSync(dir, { mode: 0o711 });
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    mkdirSync(dirname(dir), { recursive: true, mode: 0o711 });
    mkdirSync(dir, { mode: 0o711 });
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return '';
    throw error;
  }
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
