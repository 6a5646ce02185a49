/**
 * Compiled filters on disk, so that neither a restart of wherryd nor a command without it pays for one twice. A folder of
 * small files of our own: `<key>.bpf`, mode 0600, written beside and renamed. What is not exactly as it was written (torn,
 * changed, of another key, another's file) counts as absent and is replaced by the next filter of that name.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CompiledSeccomp } from './seccomp.ts';
import { INSTRUCTION_SIZE, MAX_INSTRUCTIONS } from './seccomp-stub.ts';

/** 8 bytes MAGIC, 32 of SHA-256 over the key and all that follows, u32 flags, u32 length of names, names (JSON), the program. */
const MAGIC = Buffer.from('WHERRYF1');
const SUM_AT = 8;
const BODY_AT = 40;
const NAMES_AT = 48;
/** Names that libseccomp does not know are few. */
const MAX_BYTES = 1 << 20;
/** A node has a handful of profiles; what is older than the newest of this many goes. */
const MAX_FILES = 128;
/** The run folder, one in it, and ours. */
const LEVELS = 3;

export class FilterStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async load(key: string): Promise<CompiledSeccomp | undefined> {
    try {
      const bytes = await readOwn(this.#path(key));
      return bytes === undefined ? undefined : decode(key, bytes);
    } catch {
      // Not there, or not to be read: it is made again.
      return undefined;
    }
  }

  /** @throws what the file system says; nothing is left half written under the key's name */
  async save(key: string, compiled: CompiledSeccomp): Promise<void> {
    await makeFolder(this.#folder, LEVELS);
    const temporary = join(this.#folder, `.${randomBytes(8).toString('hex')}`);
    try {
      await writeFile(temporary, encode(key, compiled), { mode: 0o600, flag: 'wx' });
      await rename(temporary, this.#path(key));
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    await this.#forgetOldest();
  }

  #path(key: string): string {
    return join(this.#folder, `${key}.bpf`);
  }

  async #forgetOldest(): Promise<void> {
    const names = await readdir(this.#folder);
    if (names.length <= MAX_FILES) return;
    const aged = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#folder, name);
        return { path, time: (await stat(path).catch(() => undefined))?.mtimeMs ?? 0 };
      }),
    );
    aged.sort((one, other) => other.time - one.time);
    await Promise.all(aged.slice(MAX_FILES).map(({ path }) => unlink(path).catch(() => {})));
  }
}

/** Node's own recursion never ends where a folder cannot be made although its parent is there (/proc). */
async function makeFolder(path: string, levels: number): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || levels <= 1) throw error;
    await makeFolder(dirname(path), levels - 1);
    await makeFolder(path, 1);
  }
}

/** A plain file that nobody but us can have written; undefined: it is not. */
async function readOwn(path: string): Promise<Buffer | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const found = await file.stat();
    const ours = found.isFile() && found.uid === process.geteuid?.() && (found.mode & 0o077) === 0;
    return ours && found.size <= MAX_BYTES ? await file.readFile() : undefined;
  } finally {
    await file.close();
  }
}

function checksum(key: string, body: Uint8Array): Buffer {
  return createHash('sha256').update(key).update(body).digest();
}

function encode(key: string, { filter, flags, skipped }: CompiledSeccomp): Buffer {
  const names = Buffer.from(JSON.stringify(skipped));
  const head = Buffer.alloc(NAMES_AT - BODY_AT);
  head.writeUInt32LE(flags, 0);
  head.writeUInt32LE(names.length, 4);
  const body = Buffer.concat([head, names, filter]);
  return Buffer.concat([MAGIC, checksum(key, body), body]);
}

function decode(key: string, bytes: Buffer): CompiledSeccomp | undefined {
  if (bytes.length < NAMES_AT || !bytes.subarray(0, SUM_AT).equals(MAGIC)) return undefined;
  const body = bytes.subarray(BODY_AT);
  if (!bytes.subarray(SUM_AT, BODY_AT).equals(checksum(key, body))) return undefined;
  const end = NAMES_AT + body.readUInt32LE(4);
  // A copy: buffers of small files share their memory with others.
  const filter = new Uint8Array(bytes.subarray(end));
  const count = filter.length / INSTRUCTION_SIZE;
  if (!Number.isInteger(count) || count < 1 || count > MAX_INSTRUCTIONS) return undefined;
  const skipped = JSON.parse(bytes.toString('utf8', NAMES_AT, end)) as string[];
  return { filter, flags: body.readUInt32LE(0), skipped };
}
