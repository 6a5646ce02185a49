/**
 * Units of systemd by D-Bus. One connection is kept open; while a call is under way it is looked at every few milliseconds, so that the
 * event loop is never held up, and otherwise nothing is expected from it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorKind, WherryError } from '../errors.ts';
import { Bus, type BusMessage, type BusProperty, type BusValue } from '../linux/sdbus.ts';

const LOOK_EVERY_MS = 2;
/** For one answer; and for a connection that was lost to work again. */
const DEADLINE_MS = 30_000;
const TRY_AGAIN_MS = 100;

const manager = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
};
const properties = { ...manager, interface: 'org.freedesktop.DBus.Properties' };
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
  /** Of the bus; undefined: the system's. */
  readonly #address: string | undefined;
  readonly #waiters = new Set<Waiter>();
  #bus: Bus | undefined;
  /** There is a bus, so its absence is a restart. */
  #wasConnected = false;
  #controlGroup: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(address?: string) {
    this.#address = address;
  }

  /**
   * Resolves when the unit runs. already-exists when there is one of this name.
   * @param isOurs asked when there is one after a lost connection: whether the call before the loss has made it
   */
  async start(unit: string, properties: readonly BusProperty[], isOurs: () => boolean): Promise<void> {
    const args = [unit, 'replace', properties as unknown as BusValue[], []];
    const once = () => this.#job(unit, 'StartTransientUnit', 'ssa(sv)a(sa(sv))', args);
    const unlessOurs = (error: unknown) => {
      if (!isKind(error, 'already-exists')) throw error;
      return isOurs();
    };
    await this.#patiently(async () => {
      try {
        await once();
      } catch (error) {
        if (unlessOurs(error)) return;
        // A failed unit of before keeps the name until it is forgotten.
        await this.#forgetFailure(unit);
        await once();
      }
    });
  }

  /** Resolves when the unit has ended and is forgotten; one that is not there is fine. */
  async stop(unit: string): Promise<void> {
    await this.#patiently(async () => {
      try {
        await this.#job(unit, 'StopUnit', 'ss', [unit, 'replace']);
      } catch (error) {
        if (!isKind(error, 'not-found')) throw error;
      }
      await this.#forgetFailure(unit);
    });
  }

  /** Until the next boot only, as the unit itself. */
  async setProperties(unit: string, properties: readonly BusProperty[]): Promise<void> {
    const args = [unit, true, properties as unknown as BusValue[]];
    await this.#patiently(() => this.#call(manager, 'SetUnitProperties', 'sba(sv)', args));
  }

  /** Where the manager's own units begin in the hierarchy: '' for the system's, /user.slice/… for a user's. */
  async controlGroup(): Promise<string> {
    const args = [manager.interface, 'ControlGroup'];
    this.#controlGroup ??= String(
      (await this.#patiently(() => this.#call(properties, 'Get', 'ss', args))).args[0] ?? '',
    ).replace(/\/$/, '');
    return this.#controlGroup;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#bus?.close();
    this.#bus = undefined;
  }

  /** Of a failed unit something stays to be looked at, and its name stays taken. */
  async #forgetFailure(unit: string): Promise<void> {
    try {
      await this.#call(manager, 'ResetFailedUnit', 's', [unit]);
    } catch (error) {
      if (isKind(error, 'unavailable')) throw error;
    }
  }

  /** Again while the connection is lost: the bus is restarted, or systemd executes itself anew. */
  async #patiently<T>(act: () => Promise<T>): Promise<T> {
    const until = performance.now() + DEADLINE_MS;
    for (;;) {
      try {
        return await act();
      } catch (error) {
        const canWait = isKind(error, 'unavailable') && this.#wasConnected && performance.now() < until;
        if (!canWait) throw error;
        await sleep(TRY_AGAIN_MS);
      }
    }
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
      const reply = await this.#call(manager, member, signature, args);
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

  async #call(
    target: typeof manager,
    member: string,
    signature: string,
    args: readonly BusValue[],
  ): Promise<BusMessage> {
    const cookie = this.#connected().call(target, member, signature, args);
    const reply = await this.#wait((message, finish) => {
      if ((message.kind === 'return' || message.kind === 'error') && message.answers === cookie)
        finish(message);
    }).promise;
    this.#wasConnected = true;
    if (reply.kind !== 'error') return reply;
    throw new WherryError(kindOf(reply), `systemd: ${member}: ${reply.args[0] ?? 'refused'}`, {
      errno: reply.errno,
    });
  }

  #connected(): Bus {
    // Nobody has looked at the connection since the last call; its end would only show when an answer does not come.
    if (this.#bus !== undefined && this.#waiters.size === 0) this.#look();
    if (this.#bus === undefined) {
      let bus: Bus;
      try {
        bus = new Bus(this.#address);
      } catch (error) {
        if (!this.#wasConnected) throw error;
        throw new WherryError('unavailable', 'the connection to D-Bus is lost', { cause: error });
      }
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

function kindOf({ error }: BusMessage): ErrorKind {
  if (error === 'org.freedesktop.systemd1.NoSuchUnit') return 'not-found';
  if (error === 'org.freedesktop.systemd1.UnitExists') return 'already-exists';
  return error === undefined ? 'internal' : 'unavailable';
}

function isKind(error: unknown, kind: ErrorKind): boolean {
  return error instanceof WherryError && error.kind === kind;
}
