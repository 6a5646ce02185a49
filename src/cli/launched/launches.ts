/** The detached containers of `launch`: their consoles, and what is to happen at their ends. */
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { keyName } from '../../container/key.ts';
import type {
  ContainerKey,
  ContainerRuntime,
  ContainerState,
  RuntimeEvent,
  StdioPaths,
} from '../../container/types.ts';
import { WherryError } from '../../errors.ts';
import { makeFifo } from '../../linux/make-fifo.ts';
import { LAUNCH, removeLaunchFolder } from '../launch-folder.ts';
import { Console, streamFiles } from './console.ts';

/** On a detached container of ours; kept with its state, so that a new wherryd finds everything again. */
export const FOLDER = 'org.wherry.launch.folder';
/** `true`: deleted at its end. */
export const REMOVE = 'org.wherry.launch.remove';

export interface LaunchesOptions {
  runtime: ContainerRuntime;
  runDir: string;
  warn(message: string, fields?: Record<string, unknown>): void;
}

export class Launches {
  readonly #options: LaunchesOptions;
  readonly #consoles = new Map<string, Console>();
  readonly #startedAt = Date.now();

  constructor(options: LaunchesOptions) {
    this.#options = options;
    options.runtime.onEvent((event) => this.#told(event));
  }

  /** Makes the FIFOs of a container to be and begins to listen; `input`: it gets a standard input. Undone by `discard`. */
  prepare(
    key: ContainerKey,
    folder: string,
    { terminal, input }: { terminal: boolean; input: boolean },
  ): StdioPaths {
    const wanted = { stdin: input, stdout: true, stderr: !terminal };
    for (const name of streamFiles) if (wanted[name]) makeFifo(join(folder, name), 0o600);
    const path = (name: (typeof streamFiles)[number]) => (wanted[name] ? join(folder, name) : '');
    this.#listen(key, folder);
    return { stdin: path('stdin'), stdout: path('stdout'), stderr: path('stderr'), terminal };
  }

  /** Of a create that failed. */
  discard(key: ContainerKey): void {
    this.#consoles.get(keyName(key))?.close();
    this.#consoles.delete(keyName(key));
  }

  /** failed-precondition where the container was not launched detached. */
  console(state: ContainerState): Console {
    const found = this.#open(state);
    if (found !== undefined) return found;
    throw new WherryError('failed-precondition', `the output of container ${state.key.id} is not kept here`, {
      hint: 'it is with who started it; "wherry launch --detach" keeps it',
    });
  }

  /** At the start of wherryd: the containers that the last one left. Folders that nobody uses any more are removed. */
  async takeUp(): Promise<void> {
    const used = new Set<string>();
    for (const state of this.#options.runtime.list()) {
      used.add(state.bundle);
      if (this.#open(state) !== undefined && state.status === 'stopped') this.#ended(state);
    }
    const parent = join(this.#options.runDir, LAUNCH);
    for (const name of await readdir(parent).catch(() => [])) {
      const folder = join(parent, name);
      const { mtimeMs } = await stat(folder).catch(() => ({ mtimeMs: Infinity }));
      if (!used.has(folder) && mtimeMs < this.#startedAt) await this.#remove(folder);
    }
  }

  #open(state: ContainerState): Console | undefined {
    const folder = this.#folderOf(state);
    if (folder === undefined) return undefined;
    return this.#consoles.get(keyName(state.key)) ?? this.#listen(state.key, folder);
  }

  #listen(key: ContainerKey, folder: string): Console {
    const warn = (problem: string) =>
      this.#options.warn('output of a container is lost', { id: key.id, error: problem });
    const console = Console.open(folder, warn);
    this.#consoles.set(keyName(key), console);
    return console;
  }

  /** Annotations are the caller's: only a folder of our own making is followed. */
  #folderOf({ annotations, bundle }: ContainerState): string | undefined {
    const folder = annotations[FOLDER];
    const own = folder === bundle && dirname(folder) === join(this.#options.runDir, LAUNCH);
    return own ? folder : undefined;
  }

  #told(event: RuntimeEvent): void {
    if (event.type === 'exited') this.#ended(event.state);
    if (event.type !== 'deleted') return;
    const folder = this.#folderOf(event.state);
    const console = this.#consoles.get(keyName(event.state.key));
    this.#consoles.delete(keyName(event.state.key));
    console?.close();
    if (folder !== undefined) void this.#remove(folder, console);
  }

  #ended(state: ContainerState): void {
    if (state.annotations[REMOVE] !== 'true' || this.#folderOf(state) === undefined) return;
    const console = this.#consoles.get(keyName(state.key));
    const removed = async (): Promise<void> => {
      await console?.ended;
      await this.#options.runtime.delete(state.key, false, { requestId: 'launch --rm' });
    };
    removed().catch((error: unknown) => {
      if (this.#options.runtime.find(state.key) === undefined) return;
      this.#options.warn('a container was not deleted at its end', {
        id: state.key.id,
        error: String(error),
      });
    });
  }

  async #remove(folder: string, console?: Console): Promise<void> {
    // By the log's own hand, or what is on its way to it would make it anew.
    await console?.log.remove();
    await removeLaunchFolder(folder).catch((error: unknown) => {
      this.#options.warn('a folder of launch was left behind', { folder, error: String(error) });
    });
  }
}
