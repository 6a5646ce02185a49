/**
 * Groups on disk: one JSON file each in `<run>/groups`, replaced by rename. The run folder is a tmpfs of our own, so these few small writes
 * are made in place: a shim's start waits for them.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { WherryError } from '../../src/errors.ts';
import { replaceFileSync } from '../../src/linux/replace-file.ts';
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

export class GroupFiles {
  private readonly dir: string;
  private readonly boot: string;

  constructor(dir: string, boot: bigint) {
    this.dir = dir;
    this.boot = String(boot);
  }

  /** Those whose listeners keel still has. The others' files, and damaged ones, are removed. */
  load(log: Logger): GroupRecord[] {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const records: GroupRecord[] = [];
    for (const file of readdirSync(this.dir)) {
      const path = join(this.dir, file);
      try {
        const json = JSON.parse(readFileSync(path, 'utf8')) as GroupJson;
        if (json.boot === this.boot) {
          records.push({ ...json, listenerId: BigInt(json.listenerId), members: new Map(json.members) });
          continue;
        }
      } catch (error) {
        log.warn('a remembered shim socket is damaged', { path, error: (error as Error).message });
      }
      rmSync(path, { force: true });
    }
    return records;
  }

  save(name: string, record: GroupRecord): void {
    const { listenerId, socketPath, scope, namespace, group, ttrpcAddress, members, shutdown } = record;
    const { drainMs, schedCore } = record;
    const json: GroupJson = {
      boot: this.boot,
      listenerId: String(listenerId),
      socketPath,
      scope,
      namespace,
      group,
      ttrpcAddress,
      members: [...members],
      shutdown,
      ...(drainMs !== undefined && { drainMs }),
      ...(schedCore === true && { schedCore }),
    };
    try {
      replaceFileSync(join(this.dir, `${name}.json`), JSON.stringify(json));
    } catch (cause) {
      throw new WherryError(
        'resource-exhausted',
        `cannot write down the shim's socket: ${(cause as Error).message}`,
        { hint: 'make room in the run folder', cause },
      );
    }
  }

  remove(name: string): void {
    rmSync(join(this.dir, `${name}.json`), { force: true });
  }
}
