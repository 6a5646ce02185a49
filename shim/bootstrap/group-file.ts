/**
 * Groups on disk: `<run>/sockets`, one line of JSON each, padded with blanks to a whole number of slots and overwritten in place. The run
 * folder is our own, so these few small writes are made in place; a shim's start waits for them, and the making and renaming of files, each a
 * hundred times as much as a write where the run folder is on a disk, would be most of what it costs.
 */
import { constants, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { WherryError } from '../../src/errors.ts';
import { boundary } from '../../src/fault.ts';
import { writeWhole } from '../../src/linux/write-whole.ts';
import type { Logger } from '../log.ts';

/** pending: `start` was called, Create was not yet. */
export type Member = 'pending' | 'joined' | 'deleted';

export interface GroupRecord {
  listenerId: bigint;
  /** '' in gRPC mode. */
  socketPath: string;
  scope: string;
  namespace: string;
  group: string;
  ttrpcAddress: string;
  members: Map<string, Member>;
  /** How long Delete waits for output; undefined: the usual time. */
  drainMs?: number;
  /** SCHED_CORE was set for `start`. */
  schedCore?: boolean;
  /** containerd has sent Shutdown. */
  shutdown: boolean;
}

interface GroupJson extends Omit<GroupRecord, 'listenerId' | 'members'> {
  boot: string;
  listenerId: string;
  members: [string, Member][];
}

/** Bytes from the file's start. */
interface Slot {
  at: number;
  size: number;
}

/**
 * A group of one container takes half of it. Larger slots are twice, four times … as large and begin at a multiple of that, so that none lies
 * on two pages: the kernel looks between two pages whether the writer was killed, so a death leaves a line as it was or as it is to be.
 */
const SLOT_BYTES = 1024;
const NEWLINE = 0x0a;

export class GroupFile {
  readonly #path: string;
  readonly #boot: string;
  readonly #slots = new Map<string, Slot>();
  readonly #free: Slot[] = [];
  readonly #file: number;
  #end = 0;

  constructor(path: string, boot: bigint) {
    this.#path = path;
    this.#boot = String(boot);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  }

  /** Those whose listeners keel still has, by `nameOf`. The others' lines, and damaged ones, are blanked. */
  load(log: Logger, nameOf: (record: GroupRecord) => string): GroupRecord[] {
    const bytes = readFileSync(this.#path);
    const records: GroupRecord[] = [];
    for (let at = 0, next: number; at < bytes.length; at = next) {
      const newline = bytes.indexOf(NEWLINE, at);
      next = newline < 0 ? bytes.length : newline + 1;
      const slot = { at, size: next - at };
      const text = bytes.toString('utf8', at, next).trim();
      const record = text === '' ? undefined : this.#parse(text, log);
      if (record !== undefined) {
        records.push(record);
        this.#slots.set(nameOf(record), slot);
      } else if (text === '') this.#free.push(slot);
      else this.#blank(slot);
    }
    this.#end = bytes.length;
    return records;
  }

  save(name: string, record: GroupRecord): void {
    const text = Buffer.from(JSON.stringify(this.#toJson(record)));
    const before = this.#slots.get(name);
    try {
      const slot = before !== undefined && before.size > text.length ? before : this.#take(text.length + 1);
      boundary('socket', record.group);
      this.#write(slot, text);
      boundary('socket written', record.group);
      this.#slots.set(name, slot);
      if (before !== undefined && slot !== before) this.#blank(before);
    } catch (cause) {
      throw new WherryError(
        'resource-exhausted',
        `cannot write down the shim's socket: ${(cause as Error).message}`,
        { hint: 'make room in the run folder', cause },
      );
    }
  }

  remove(name: string): void {
    const slot = this.#slots.get(name);
    this.#slots.delete(name);
    if (slot !== undefined) this.#blank(slot);
  }

  #parse(text: string, log: Logger): GroupRecord | undefined {
    try {
      const json = JSON.parse(text) as GroupJson;
      if (json.boot !== this.#boot) return undefined;
      return { ...json, listenerId: BigInt(json.listenerId), members: new Map(json.members) };
    } catch (error) {
      log.warn('a remembered shim socket is damaged', { path: this.#path, error: (error as Error).message });
      return undefined;
    }
  }

  #toJson({ drainMs, schedCore, ...record }: GroupRecord): GroupJson {
    return {
      boot: this.#boot,
      listenerId: String(record.listenerId),
      socketPath: record.socketPath,
      scope: record.scope,
      namespace: record.namespace,
      group: record.group,
      ttrpcAddress: record.ttrpcAddress,
      members: [...record.members],
      shutdown: record.shutdown,
      ...(drainMs !== undefined && { drainMs }),
      ...(schedCore === true && { schedCore }),
    };
  }

  #take(length: number): Slot {
    const index = this.#free.findIndex(({ size }) => size >= length);
    const [free] = index < 0 ? [] : this.#free.splice(index, 1);
    if (free !== undefined) return free;
    let size = SLOT_BYTES;
    while (size < length) size *= 2;
    const at = Math.ceil(this.#end / size) * size;
    if (at > this.#end) this.#blank({ at: this.#end, size: at - this.#end });
    return { at, size };
  }

  #blank(slot: Slot): void {
    this.#write(slot, Buffer.alloc(0));
    this.#free.push(slot);
  }

  /** One pwrite(2), so the death of this process leaves the old line or the new one. Without room for a new slot there is none. */
  #write({ at, size }: Slot, text: Buffer): void {
    const line = Buffer.alloc(size, ' ');
    text.copy(line);
    line[size - 1] = NEWLINE;
    writeWhole(this.#file, line, at, this.#end);
    this.#end = Math.max(this.#end, at + size);
  }
}
