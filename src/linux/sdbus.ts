/**
 * D-Bus through libsystemd's sd-bus (sd-bus(3)). Only its calls with a fixed number of arguments are used, and only those that
 * never wait: what is to be sent is queued, and sd_bus_process moves it along whenever we look.
 */
import { WherryError } from '../errors.ts';
import { errnoName } from './errno.ts';
import { loadLibrary, type Pointer } from './library.ts';

/**
 * A value of a D-Bus signature: s, o, g: string; b: boolean; y, n, q, u, i, t, x: bigint or number; d: number; v: `variant()`;
 * arrays, structs and dictionary entries: arrays; ay: bytes.
 */
export type BusValue = string | number | bigint | boolean | Uint8Array | Variant | readonly BusValue[];

export interface Variant {
  signature: string;
  value: BusValue;
}

/** `(sv)`: a property with its value. */
export type BusProperty = [name: string, value: Variant];

export function variant(signature: string, value: BusValue): Variant {
  return { signature, value };
}

/** Names of errors after which callers go on. Source: sd-bus' and systemd's lists of them. */
const expectedErrors = [
  'org.freedesktop.systemd1.NoSuchUnit',
  'org.freedesktop.systemd1.UnitExists',
  // Nobody has the name at the moment: systemd or the bus is being started again.
  'org.freedesktop.DBus.Error.ServiceUnknown',
  'org.freedesktop.DBus.Error.NameHasNoOwner',
  'org.freedesktop.DBus.Error.NoReply',
  'org.freedesktop.DBus.Error.Disconnected',
  'org.freedesktop.DBus.Error.TimedOut',
  'org.freedesktop.DBus.Error.Spawn.ExecFailed',
  'org.freedesktop.DBus.Error.Spawn.ChildExited',
  'org.freedesktop.DBus.Error.Spawn.Failed',
] as const;
export type ExpectedError = (typeof expectedErrors)[number];

/** A message of somebody else's: its arguments as far as they are strings (in variants too), paths and numbers. */
export interface BusMessage {
  kind: 'return' | 'error' | 'signal' | 'call';
  /** Of a signal or call. */
  member: string;
  /** Number of the call that it answers. */
  answers: bigint;
  /** Of an error: a positive errno. */
  errno: number;
  /** Of an error: which of the expected ones it is. */
  error: ExpectedError | undefined;
  args: (string | number)[];
}

type Fn = (...args: unknown[]) => number;

interface Library {
  openSystem: (bus: [Pointer]) => number;
  create: (bus: [Pointer]) => number;
  setAddress: (bus: Pointer, address: string) => number;
  /** The other side is a bus and not a peer. */
  setBusClient: (bus: Pointer, yes: number) => number;
  start: (bus: Pointer) => number;
  close: (bus: Pointer) => void;
  process: (bus: Pointer, message: [Pointer]) => number;
  send: (bus: Pointer, message: Pointer, cookie: [bigint | number]) => number;
  newCall: Fn;
  unref: (message: Pointer) => Pointer;
  appendText: Fn;
  appendBytes: Fn;
  appendArray: Fn;
  open: Fn;
  closeContainer: Fn;
  kind: (message: Pointer, kind: [number]) => number;
  answers: (message: Pointer, cookie: [bigint | number]) => number;
  member: (message: Pointer) => string | null;
  errno: (message: Pointer) => number;
  signature: (message: Pointer, complete: number) => string | null;
  isError: (message: Pointer, name: string) => number;
  enter: (message: Pointer, type: number, contents: string) => number;
  exit: (message: Pointer) => number;
  readText: (message: Pointer, type: number, value: [string | null]) => number;
  readNumber: (message: Pointer, type: number, value: [number]) => number;
}

let known: Library | undefined;

function library(): Library {
  if (known !== undefined) return known;
  const systemd = loadLibrary(['libsystemd.so.0'], 'libsystemd0');
  known = {
    openSystem: systemd.func('int sd_bus_open_system(_Out_ void **)'),
    create: systemd.func('int sd_bus_new(_Out_ void **)'),
    setAddress: systemd.func('int sd_bus_set_address(void *, const char *)'),
    setBusClient: systemd.func('int sd_bus_set_bus_client(void *, int)'),
    start: systemd.func('int sd_bus_start(void *)'),
    close: systemd.func('void *sd_bus_close_unref(void *)'),
    process: systemd.func('int sd_bus_process(void *, _Out_ void **)'),
    send: systemd.func('int sd_bus_send(void *, void *, _Out_ uint64_t *)'),
    newCall: systemd.func(
      'int sd_bus_message_new_method_call(void *, _Out_ void **, const char *, const char *, const char *, const char *)',
    ),
    unref: systemd.func('void *sd_bus_message_unref(void *)'),
    appendText: systemd.func('int sd_bus_message_append_basic(void *, char, const char *)'),
    appendBytes: systemd.func('int sd_bus_message_append_basic(void *, char, const void *)'),
    appendArray: systemd.func('int sd_bus_message_append_array(void *, char, const void *, size_t)'),
    open: systemd.func('int sd_bus_message_open_container(void *, char, const char *)'),
    closeContainer: systemd.func('int sd_bus_message_close_container(void *)'),
    kind: systemd.func('int sd_bus_message_get_type(void *, _Out_ uint8_t *)'),
    answers: systemd.func('int sd_bus_message_get_reply_cookie(void *, _Out_ uint64_t *)'),
    member: systemd.func('const char *sd_bus_message_get_member(void *)'),
    errno: systemd.func('int sd_bus_message_get_errno(void *)'),
    signature: systemd.func('const char *sd_bus_message_get_signature(void *, int)'),
    isError: systemd.func('int sd_bus_message_is_method_error(void *, const char *)'),
    enter: systemd.func('int sd_bus_message_enter_container(void *, char, const char *)'),
    exit: systemd.func('int sd_bus_message_exit_container(void *)'),
    readText: systemd.func('int sd_bus_message_read_basic(void *, char, _Out_ const char **)'),
    readNumber: systemd.func('int sd_bus_message_read_basic(void *, char, _Out_ uint32_t *)'),
  } as unknown as Library;
  return known;
}

function openAt(address: string, place: [Pointer]): number {
  const { create, setAddress, setBusClient, start, close } = library();
  const created = create(place);
  if (created < 0) return created;
  let result = setAddress(place[0], address);
  if (result >= 0) result = setBusClient(place[0], 1);
  if (result >= 0) result = start(place[0]);
  if (result < 0) close(place[0]);
  return result;
}

const kinds = ['call', 'call', 'return', 'error', 'signal'] as const;

/** One connection. Not for use after close(). */
export class Bus {
  readonly #bus: Pointer;

  /**
   * Connects without waiting for the other side. Throws failed-precondition where there is no such bus.
   * @param address of D-Bus' form (`unix:path=…`); undefined: the system's
   */
  constructor(address?: string) {
    const place: [Pointer] = [null];
    const result = address === undefined ? library().openSystem(place) : openAt(address, place);
    if (result < 0) {
      const which = address === undefined ? 'the system bus' : `the user's bus (${address})`;
      throw new WherryError('failed-precondition', `${which} cannot be reached: ${errnoName(-result)}`, {
        errno: -result,
        hint: 'systemd with D-Bus must run on this host; without them use the cgroupfs driver',
      });
    }
    this.#bus = place[0];
  }

  /** Queues a method call. Returns the number that the answer will carry. */
  call(
    target: { destination: string; path: string; interface: string },
    member: string,
    signature: string,
    args: readonly BusValue[],
  ): bigint {
    const { newCall, send, unref } = library();
    const place: [Pointer] = [null];
    check(newCall(this.#bus, place, target.destination, target.path, target.interface, member), member);
    const message = place[0];
    try {
      completeTypes(signature).forEach((type, index) => {
        append(message, type, args[index] as BusValue);
      });
      const cookie: [bigint | number] = [0];
      const sent = send(this.#bus, message, cookie);
      if (sent < 0) throw new WherryError('unavailable', `D-Bus: ${member}`, { errno: -sent });
      return BigInt(cookie[0]);
    } finally {
      unref(message);
    }
  }

  /** Sends and receives what can be without waiting. Throws `unavailable` when the connection is lost. */
  process(): BusMessage[] {
    const { process, unref } = library();
    const messages: BusMessage[] = [];
    for (;;) {
      const place: [Pointer] = [null];
      const result = process(this.#bus, place);
      if (result < 0) {
        // What came before the end is given first; the next look finds the end again.
        if (messages.length > 0) return messages;
        throw new WherryError('unavailable', 'the connection to D-Bus is lost', { errno: -result });
      }
      if (place[0] !== null) {
        messages.push(decode(place[0]));
        unref(place[0]);
      }
      if (result === 0) return messages;
    }
  }

  close(): void {
    library().close(this.#bus);
  }
}

function decode(message: Pointer): BusMessage {
  const { kind, answers, member, errno, isError, signature, enter, exit, readText, readNumber } = library();
  const type: [number] = [0];
  kind(message, type);
  const cookie: [bigint | number] = [0];
  const args: (string | number)[] = [];
  for (const letter of signature(message, 1) ?? '') {
    if ('so'.includes(letter)) {
      const text: [string | null] = [null];
      if (readText(message, code(letter), text) < 0) break;
      args.push(text[0] ?? '');
    } else if ('ubi'.includes(letter)) {
      const number: [number] = [0];
      if (readNumber(message, code(letter), number) < 0) break;
      args.push(number[0]);
    } else if (letter === 'v' && enter(message, code('v'), 's') > 0) {
      const text: [string | null] = [null];
      readText(message, code('s'), text);
      exit(message);
      args.push(text[0] ?? '');
    } else break;
  }
  const isFailure = kinds[type[0]] === 'error';
  return {
    kind: kinds[type[0]] ?? 'call',
    error: isFailure ? expectedErrors.find((name) => isError(message, name) > 0) : undefined,
    member: member(message) ?? '',
    answers: answers(message, cookie) < 0 ? 0n : BigInt(cookie[0]),
    errno: Math.abs(errno(message)),
    args,
  };
}

const code = (letter: string): number => letter.charCodeAt(0);

function append(message: Pointer, type: string, value: BusValue): void {
  const { appendText, appendBytes, appendArray, open, closeContainer } = library();
  const letter = type[0] ?? '';
  if ('sog'.includes(letter)) {
    check(appendText(message, code(letter), value), type);
  } else if (letter === 'v') {
    const inner = value as Variant;
    check(open(message, code('v'), inner.signature), type);
    append(message, inner.signature, inner.value);
    check(closeContainer(message), type);
  } else if (value instanceof Uint8Array) {
    check(appendArray(message, code('y'), value, value.length), type);
  } else if (letter === 'a') {
    const element = type.slice(1);
    check(open(message, code('a'), element), type);
    for (const one of value as readonly BusValue[]) append(message, element, one);
    check(closeContainer(message), type);
  } else if (letter === '(' || letter === '{') {
    const contents = type.slice(1, -1);
    check(open(message, code(letter === '(' ? 'r' : 'e'), contents), type);
    completeTypes(contents).forEach((part, index) => {
      append(message, part, (value as readonly BusValue[])[index] as BusValue);
    });
    check(closeContainer(message), type);
  } else {
    const bytes = Buffer.alloc(8);
    if ('tx'.includes(letter)) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value as bigint)));
    else if (letter === 'd') bytes.writeDoubleLE(Number(value));
    else bytes.writeUInt32LE(Number(value) >>> 0);
    check(appendBytes(message, code(letter), bytes), type);
  }
}

/** `sa(sv)u` → `s`, `a(sv)`, `u`. */
export function completeTypes(signature: string): string[] {
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    let end = at;
    while (signature[end] === 'a') end++;
    if (signature[end] === '(' || signature[end] === '{') {
      for (let depth = 0; ; end++) {
        if (end >= signature.length) throw new SyntaxError(`${signature} is no signature`);
        if (signature[end] === '(' || signature[end] === '{') depth++;
        if ((signature[end] === ')' || signature[end] === '}') && --depth === 0) break;
      }
    }
    types.push(signature.slice(at, end + 1));
    at = end + 1;
  }
  return types;
}

function check(result: number, what: string): void {
  if (result < 0)
    throw new WherryError('internal', `D-Bus: ${what}: ${errnoName(-result)}`, { errno: -result });
}
