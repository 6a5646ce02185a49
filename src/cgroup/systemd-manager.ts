/**
 * Units of systemd by D-Bus. One connection is kept open; while a call is under way it is looked at every few milliseconds, so that the
 * event loop is never held up, and otherwise nothing is expected from it.
 */
import { WherryError } from '../errors.ts';
import { Bus, type BusMessage, type BusValue } from '../linux/sdbus.ts';
import type { Property } from './systemd.ts';

const LOOK_EVERY_MS = 2;
const DEADLINE_MS = 30_000;
/** errnos that sd-bus makes of systemd's error names. */
const EEXIST = 17;
const NOT_LOADED = [2 /* ENOENT */, 113 /* EHOSTUNREACH */];

const manager = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
};
const driver = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
};

interface Waiter {
  take(message: BusMessage): void;
  fail(error: Error): void;
}

export class SystemdManager {
  readonly #which: 'system' | 'user';
  readonly #waiters = new Set<Waiter>();
  #bus: Bus | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(which: 'system' | 'user' = 'system') {
    this.#which = which;
  }

  /** Resolves when the unit runs. already-exists when there is one of this name. */
  async start(unit: string, properties: readonly Property[]): Promise<void> {
    await this.#job(unit, 'StartTransientUnit', 'ssa(sv)a(sa(sv))', [
      unit,
      'replace',
      properties as unknown as BusValue[],
      [],
    ]);
  }

  /** Resolves when the unit has ended and is forgotten; one that is not there is fine. */
  async stop(unit: string): Promise<void> {
    try {
      await this.#job(unit, 'StopUnit', 'ss', [unit, 'replace']);
    } catch (error) {
      if (!(error instanceof WherryError) || error.kind !== 'not-found') throw error;
    }
    // Of a failed unit something stays to be looked at, and its name stays taken.
    await this.#call('ResetFailedUnit', 's', [unit]).catch(() => {});
  }

  async setProperties(unit: string, properties: readonly Property[]): Promise<void> {
    await this.#call('SetUnitProperties', 'sba(sv)', [unit, true, properties as unknown as BusValue[]]);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#bus?.close();
    this.#bus = undefined;
  }

  /** A call that makes a job, and the signal that it is done. */
  async #job(unit: string, member: string, signature: string, args: readonly BusValue[]): Promise<void> {
    const bus = this.#connected();
    const rule = `type='signal',sender='${manager.destination}',path='${manager.path}',interface='${manager.interface}',member='JobRemoved',arg2='${unit}'`;
    // Sent one after the other without waiting: the bus keeps the order.
    bus.call(driver, 'AddMatch', 's', [rule]);
    const removed = new Map<string, string>();
    let job: string | undefined;
    const done = this.#wait((message, finish) => {
      if (message.kind !== 'signal' || message.member !== 'JobRemoved' || message.args[2] !== unit) return;
      removed.set(String(message.args[1]), String(message.args[3]));
      if (job !== undefined && removed.has(job)) finish(message);
    });
    try {
      const reply = await this.#call(member, signature, args);
      job = String(reply.args[0] ?? '');
      const result = removed.get(job) ?? String((await done.promise).args[3]);
      if (result !== 'done') {
        throw new WherryError('internal', `systemd: ${member} of ${unit}: the job ended with ${result}`, {
          hint: `see: journalctl -u ${unit}`,
        });
      }
    } finally {
      done.cancel();
      if (this.#bus === bus) bus.call(driver, 'RemoveMatch', 's', [rule]);
    }
  }

  async #call(member: string, signature: string, args: readonly BusValue[]): Promise<BusMessage> {
    const cookie = this.#connected().call(manager, member, signature, args);
    const reply = await this.#wait((message, finish) => {
      if ((message.kind === 'return' || message.kind === 'error') && message.answers === cookie)
        finish(message);
    }).promise;
    if (reply.kind !== 'error') return reply;
    const kind =
      reply.errno === EEXIST ? 'already-exists' : NOT_LOADED.includes(reply.errno) ? 'not-found' : 'internal';
    throw new WherryError(kind, `systemd: ${member}: ${reply.args[0] ?? 'refused'}`, { errno: reply.errno });
  }

  #connected(): Bus {
    if (this.#bus === undefined) {
      const bus = new Bus(this.#which);
      // Without a subscriber systemd tells of no jobs.
      bus.call(manager, 'Subscribe', '', []);
      this.#bus = bus;
    }
    return this.#bus;
  }

  #wait(look: (message: BusMessage, finish: (found: BusMessage) => void) => void): {
    promise: Promise<BusMessage>;
    cancel(): void;
  } {
    const { promise, resolve, reject } = Promise.withResolvers<BusMessage>();
    promise.catch(() => {});
    const cancel = () => {
      clearTimeout(deadline);
      this.#waiters.delete(waiter);
      if (this.#waiters.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    };
    const deadline = setTimeout(() => {
      cancel();
      reject(new WherryError('deadline-exceeded', `systemd has not answered within ${DEADLINE_MS / 1000} s`));
    }, DEADLINE_MS);
    const waiter: Waiter = {
      take(message) {
        let found = false;
        look(message, (answer) => {
          found = true;
          resolve(answer);
        });
        if (found) cancel();
      },
      fail(error) {
        cancel();
        reject(error);
      },
    };
    this.#waiters.add(waiter);
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS);
    return { promise, cancel };
  }

  #look(): void {
    let messages: BusMessage[];
    try {
      messages = this.#bus?.process() ?? [];
    } catch (thrown) {
      const error = WherryError.from(thrown);
      this.close();
      for (const waiter of [...this.#waiters]) waiter.fail(error);
      return;
    }
    for (const message of messages) for (const waiter of [...this.#waiters]) waiter.take(message);
  }
}
