/** Which containers there are: found by their name, or by the token under which keel knows their init. */
import { keyName } from './key.ts';
import type { ContainerRecord } from './record.ts';
import { notFound } from './refusals.ts';
import type { ContainerKey, ContainerState } from './types.ts';
import { sleep } from './waiting.ts';

/** How long a command waits for a container that is being created and started. */
const STANDING_MS = 2000;

export class Containers {
  readonly #byName = new Map<string, ContainerRecord>();
  readonly #byToken = new Map<bigint, ContainerRecord>();

  add(record: ContainerRecord): void {
    this.#byName.set(keyName(record.key), record);
    this.#byToken.set(record.token, record);
  }

  /** Its name is free then. */
  forget(record: ContainerRecord): void {
    this.#byName.delete(keyName(record.key));
    this.#byToken.delete(record.token);
    record.noteForgotten();
  }

  /** Also one that is being made, or is about to be forgotten. */
  named(key: ContainerKey): ContainerRecord | undefined {
    return this.#byName.get(keyName(key));
  }

  withToken(token: bigint): ContainerRecord | undefined {
    return this.#byToken.get(token);
  }

  all(): Iterable<ContainerRecord> {
    return this.#byName.values();
  }

  /** `not-found` where there is none of that name. */
  get(key: ContainerKey): ContainerRecord {
    const record = this.named(key);
    if (record === undefined) throw notFound();
    return record;
  }

  /** Those that a caller may see, of this scope, namespace and id; all, where they are not given. */
  list(filter: Partial<ContainerKey>): ContainerState[] {
    return [...this.#byName.values()]
      .filter(
        ({ key, gone }) =>
          !gone &&
          (filter.scope === undefined || key.scope === filter.scope) &&
          (filter.namespace === undefined || key.namespace === filter.namespace) &&
          (filter.id === undefined || key.id === filter.id),
      )
      .map((record) => record.snapshot());
  }

  /** Neither deleted nor about to be. */
  isKept(record: ContainerRecord): boolean {
    return !record.deleting && this.#byToken.has(record.token);
  }

  /** Once it is known what has become of a container that an earlier wherryd left. */
  async settled(key: ContainerKey): Promise<ContainerRecord> {
    const record = this.get(key);
    if (record.unsettled === undefined) return record;
    await record.unsettled.promise;
    return this.get(key);
  }

  /**
   * For what needs a living init: its output may be seen, and somebody may act on that, a moment before its create is answered. Longer
   * than that only its hooks can take, and one of them may be the caller.
   */
  async standing(key: ContainerKey, always = false): Promise<ContainerRecord> {
    const record = await this.settled(key);
    if (record.status !== 'creating' || !(record.startsAtOnce || always)) return record;
    await Promise.race([record.made, sleep(STANDING_MS)]);
    return this.get(key);
  }
}
