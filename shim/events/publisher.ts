/**
 * Tells each containerd what happens to its containers: create, start, exit, delete, in this order. Lives here: queues and
 * envelopes. Not here: what the events mean; the core emits them in order.
 */
import type { RuntimeEvent } from '../../src/container/types.ts';
import type { Logger } from '../log.ts';
import type { ShimRuntime } from '../runtime.ts';
import { encodeEvent } from './envelope.ts';
import type { EventJournal } from './journal.ts';
import { EventQueue } from './queue.ts';

export class EventPublisher {
  private readonly queues = new Map<string, EventQueue>();
  private readonly addressOf: (scope: string, namespace: string) => string | undefined;
  private readonly log: Logger;
  private readonly journal: EventJournal | undefined;
  private readonly unsubscribe: () => void;

  /** `addressOf`: where the containerd of a scope listens for events; undefined where nobody wants them. */
  constructor(
    runtime: Pick<ShimRuntime, 'onEvent'>,
    addressOf: (scope: string, namespace: string) => string | undefined,
    log: Logger,
    journal?: EventJournal,
  ) {
    this.addressOf = addressOf;
    this.log = log;
    this.journal = journal;
    for (const { scope, address, event, sequence } of journal?.pending() ?? []) {
      this.queueOf(scope, event.namespace, address).push(event, () => journal?.delivered(sequence));
    }
    this.unsubscribe = runtime.onEvent((event) => this.publish(event));
  }

  /** Resolves when all that was published is delivered, or after `timeout` milliseconds. */
  async flush(timeout: number): Promise<void> {
    await Promise.all([...this.queues.values()].map((queue) => queue.flush(timeout)));
  }

  async close(timeout: number): Promise<void> {
    this.unsubscribe();
    await this.flush(timeout);
    for (const queue of this.queues.values()) queue.close();
    this.queues.clear();
  }

  private publish(event: RuntimeEvent): void {
    const { scope, namespace } = event.state.key;
    const address = this.addressOf(scope, namespace);
    if (address === undefined || address === '') return;
    if (this.journal?.has(event) === true) return;
    const queue = this.queueOf(scope, namespace, address);
    const encoded = encodeEvent(event, new Date());
    const sequence = this.journal?.add(event, address, encoded) ?? 0;
    queue.push(encoded, () => this.journal?.delivered(sequence));
  }

  private queueOf(scope: string, namespace: string, address: string): EventQueue {
    const name = `${scope}\0${namespace}`;
    let queue = this.queues.get(name);
    if (queue === undefined) {
      queue = new EventQueue({ address, log: this.log });
      this.queues.set(name, queue);
    }
    // containerd may have been started anew with another address.
    queue.address = address;
    return queue;
  }
}
