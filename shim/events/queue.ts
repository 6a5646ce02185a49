/**
 * Events for one containerd, one at a time and in order. While containerd is away they are kept (up to a bound) and delivered
 * when it is back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { WherryError } from '../../src/errors.ts';
import { boundary } from '../../src/fault.ts';
import { Empty } from '../gen/google/protobuf/empty.ts';
import type { Logger } from '../log.ts';
import { TtrpcClient } from '../ttrpc/client.ts';
import type { EncodedEvent } from './envelope.ts';

const SERVICE = 'containerd.services.events.ttrpc.v1.Events';
/** Field 1 of ForwardRequest is the envelope: on the wire a message is its bytes. */
const ENVELOPE_TAG = 0x0a;
const forwardRequest = {
  encode: (event: EncodedEvent) => new BinaryWriter().uint32(ENVELOPE_TAG).bytes(event.bytes),
};
const codecs = { request: forwardRequest, response: Empty };
/** Of one namespace of one containerd. */
const LIMIT_BYTES = 16 << 20;
const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2000;
/** Answers of a containerd that is there but cannot take the event just now. */
const MAX_REFUSALS = 5;

export interface EventQueueOptions {
  /** Where containerd listens for events. */
  address: string;
  log: Logger;
  /** Bytes of events that are kept while containerd is away; then the oldest goes first. */
  limit?: number;
}

export class EventQueue {
  address: string;
  private readonly log: Logger;
  private readonly limit: number;
  private readonly queue: { event: EncodedEvent; onEnd: () => void }[] = [];
  private bytes = 0;
  private readonly stop = new AbortController();
  private client: TtrpcClient | undefined;
  private running: Promise<void> | undefined;
  private lost = 0;
  private warned = false;
  private away = false;
  private readonly flushes = new Set<() => void>();

  constructor(options: EventQueueOptions) {
    this.address = options.address;
    this.log = options.log;
    this.limit = options.limit ?? LIMIT_BYTES;
  }

  /** `onEnd`: it was delivered, or refused, or dropped. */
  push(event: EncodedEvent, onEnd: () => void = () => {}): void {
    if (this.stop.signal.aborted) return;
    this.queue.push({ event, onEnd });
    this.bytes += event.bytes.length;
    // The first one may be under way.
    while (this.bytes > this.limit && this.queue.length > 2) this.drop();
    this.running ??= this.run();
  }

  /** Resolves when all is delivered, when containerd turns out to be away, or after `timeout` milliseconds. */
  async flush(timeout: number): Promise<void> {
    if (this.running === undefined || this.away) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.flushes.add(resolve);
    const timer = setTimeout(resolve, timeout);
    await promise;
    clearTimeout(timer);
    this.flushes.delete(resolve);
  }

  close(): void {
    this.stop.abort();
    this.client?.close();
    if (this.queue.length > 0) this.log.warn('events for containerd were not delivered', this.fields());
  }

  private drop(): void {
    const oldest = this.queue.splice(1, 1)[0];
    if (oldest === undefined) return;
    this.bytes -= oldest.event.bytes.length;
    oldest.onEnd();
    this.lost++;
    if (!this.warned) this.log.warn('containerd takes no events; the oldest are dropped', this.fields());
    this.warned = true;
  }

  private async run(): Promise<void> {
    // At once, and so before an answer that the same thing brings about: containerd must hear of a kill for want of memory before Wait ends.
    let backoff = FIRST_BACKOFF_MS;
    let refusals = 0;
    for (let first = this.queue[0]; first !== undefined && !this.stop.signal.aborted; first = this.queue[0]) {
      const { event } = first;
      try {
        await this.deliver(event);
      } catch (thrown) {
        if (this.stop.signal.aborted) return;
        const error = WherryError.from(thrown);
        this.away = error.kind === 'unavailable' || error.kind === 'deadline-exceeded';
        if (error.kind === 'invalid-argument' || (!this.away && ++refusals > MAX_REFUSALS)) {
          this.log.error('containerd refuses an event', {
            ...this.fields(),
            topic: event.topic,
            error: error.message,
          });
        } else {
          if (backoff === FIRST_BACKOFF_MS) {
            this.log.debug('an event waits for containerd', { ...this.fields(), error: error.message });
          }
          if (this.away) this.endFlushes();
          await sleep(backoff, undefined, { signal: this.stop.signal }).catch(() => undefined);
          backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
          continue;
        }
      }
      this.away = false;
      this.warned = false;
      this.queue.shift();
      this.bytes -= event.bytes.length;
      first.onEnd();
      backoff = FIRST_BACKOFF_MS;
      refusals = 0;
    }
    // In the same turn as the look that found nothing, so that no push falls between.
    this.running = undefined;
    this.endFlushes();
  }

  private endFlushes(): void {
    for (const resolve of this.flushes) resolve();
  }

  /**
   * Without a deadline: a containerd that has stopped for a while would take the event twice if it were sent again. One that dies closes
   * the connection, and what it has not answered is for the next.
   */
  private async deliver(event: EncodedEvent): Promise<void> {
    boundary('deliver', event.topic);
    if (this.client === undefined || this.client.closed) this.client = await TtrpcClient.dial(this.address);
    boundary('deliver now', event.topic);
    await this.client.call(SERVICE, 'Forward', codecs, event, 0);
    boundary('delivered', event.topic);
  }

  private fields(): Record<string, unknown> {
    return { address: this.address, waiting: this.queue.length, lost: this.lost };
  }
}
