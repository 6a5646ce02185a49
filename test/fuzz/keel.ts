/**
 * keel with sanitizers against peers and a wherryd that say anything: frames and control messages, made from valid ones by a seeded
 * generator, over real sockets. The seed and the number of the step repeat a failure.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { str, u32, u64 } from '../../src/daemon/frames.ts';
import { FromClient, FromKeel, ToKeel } from '../../src/daemon/wire.ts';
import type { Tape } from '../../src/tape/tape.ts';
import { alive, Harbour, type Link, until } from '../integration/keel/harness.ts';
import { initTape } from '../integration/keel/tapes.ts';

const HEADER = 16;
const LISTENERS = 3;
const PEERS = 12;
const TOKENS = 6;
/** Steps between two questions that keel must answer. */
const ROUND = 200;

/** mulberry32: the same seed gives the same run. */
/** PR_SET_PDEATHSIG of prctl(2) with SIGKILL: an init outlives keel, and here nobody would ever end it. */
function dieWithParent(tape: Tape): void {
  tape.syscall('prctl', [1, 9, 0, 0, 0]);
}

export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** 0 to n - 1. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0 === 0 ? 0 : ((mixed ^ (mixed >>> 14)) >>> 0) % n;
  }
  chance(one: number): boolean {
    return this.below(one) === 0;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  bytes(n: number): Buffer {
    return Buffer.from(Array.from({ length: n }, () => this.below(256)));
  }
  /** Numbers at which programs go wrong. */
  number(): number {
    return this.of([
      0, 1, 2, 7, 127, 128, 255, 256, 4095, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
    ]);
  }
}

export interface FuzzResult {
  steps: number;
  /** keel's link was closed by it, as nonsense deserves, and a new wherryd came. */
  links: number;
}

/** Throws, with the seed, when keel ends, says something of a sanitizer or no longer answers. */
export async function fuzzKeel(seconds: number, seed: number): Promise<FuzzResult> {
  const started = await Harbour.start('sanitized');
  await using harbour = started.harbour;
  const fuzz = new Fuzz(harbour, started.link, new Random(seed));
  const until = performance.now() + seconds * 1000;
  try {
    while (performance.now() < until) await fuzz.round();
  } catch (error) {
    throw new Error(`seed ${seed}, step ${fuzz.steps}: ${String(error)}\n${harbour.log.slice(-6000)}`, {
      cause: error,
    });
  }
  return { steps: fuzz.steps, links: fuzz.links };
}

class Fuzz {
  steps = 0;
  links = 0;
  readonly #harbour: Harbour;
  readonly #random: Random;
  #link: Link;
  readonly #peers: { socket: Socket; ttrpc: boolean }[] = [];
  readonly #connections: bigint[] = [];
  #listening = false;

  constructor(harbour: Harbour, link: Link, random: Random) {
    this.#harbour = harbour;
    this.#random = random;
    this.#link = link;
    this.#follow(link);
  }

  async round(): Promise<void> {
    const { keel } = this.#harbour;
    if (!this.#listening) {
      for (let id = 1; id <= LISTENERS; id++)
        assert.equal((await this.#link.listen(BigInt(id), this.#path(id))).result, 0);
      this.#listening = true;
    }
    if (this.#random.chance(8)) await this.#crashLoop();
    for (let step = 0; step < ROUND; step++) {
      this.steps++;
      await this.#step();
    }
    await this.#answers();
    assert.ok(
      keel?.pid !== undefined && alive(keel.pid),
      `keel has ended: ${keel?.exitCode} ${keel?.signalCode}`,
    );
    assert.doesNotMatch(this.#harbour.log, /AddressSanitizer|runtime error:/);
  }

  /** keel is alone for a while: what peers ask then it answers or refuses itself. */
  async #crashLoop(): Promise<void> {
    const random = this.#random;
    for (let starts = 0; starts < 2; starts++) {
      this.#killWherryd();
      await this.#harbour.wherryd(false);
    }
    this.#killWherryd();
    for (let said = 0; said < ROUND; said++) {
      if (this.#peers.length < PEERS / 2) await this.#open();
      if (this.#peers.length > 0) this.#say(random.of(this.#peers));
      if (said % 16 === 0) await new Promise((wake) => setImmediate(wake));
    }
    this.#link = await this.#harbour.wherryd();
    this.#follow(this.#link);
  }

  /** keel may have done it already, over nonsense that was said last. */
  #killWherryd(): void {
    const { pid } = this.#harbour.started();
    if (alive(pid)) process.kill(pid, 'SIGKILL');
  }

  #path(id: number): string {
    return `${this.#harbour.folder}/f${id}.sock`;
  }

  /** Numbers of connections, for frames that concern one. The rest of what keel says is of no interest. */
  #follow(link: Link): void {
    link.onFrame = ({ type, id }) => {
      if (type === FromKeel.CONN_OPEN) this.#connections.push(id);
      if (this.#connections.length > 64) this.#connections.shift();
      return type !== FromKeel.HELLO && type !== FromKeel.REPLY;
    };
  }

  /** Whatever was said, keel serves its next wherryd, if not this one. */
  async #answers(): Promise<void> {
    const link = this.#link;
    const status = link.status().catch(() => undefined);
    await until(
      'keel answers, or hangs up',
      () => link.closed || link.inbox.types.includes(FromKeel.REPLY) || undefined,
    ).catch(() => {});
    if (
      !link.closed &&
      (await Promise.race([status, until('its end', () => link.closed || undefined)])) !== true
    )
      return;
    this.links++;
    this.#link = await this.#harbour.wherryd();
    this.#follow(this.#link);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    if (this.#link.closed) return;
    const kind = random.below(20);
    if (kind < 9) this.#order();
    else if (kind < 11 && this.#peers.length < PEERS) await this.#open();
    else if (kind < 18 && this.#peers.length > 0) this.#say(random.of(this.#peers));
    else if (this.#peers.length > 0)
      this.#peers.splice(random.below(this.#peers.length), 1)[0]!.socket.destroy();
    // keel reads them one after the other only if it gets the processor.
    if (this.steps % 16 === 0) await new Promise((wake) => setImmediate(wake));
  }

  async #open(): Promise<void> {
    const ttrpc = this.#random.chance(2);
    const path = ttrpc ? this.#path(1 + this.#random.below(LISTENERS)) : 'keel.sock';
    try {
      const { socket } = await this.#harbour.connect(path);
      this.#peers.push({ socket, ttrpc });
      socket.on('close', () => {
        const at = this.#peers.findIndex((peer) => peer.socket === socket);
        if (at >= 0) this.#peers.splice(at, 1);
      });
    } catch {
      // A listener that an order closed.
    }
  }

  /** A peer's frame, whole or in parts, right or wrong. */
  #say({ socket, ttrpc }: { socket: Socket; ttrpc: boolean }): void {
    const random = this.#random;
    const body = random.chance(3)
      ? random.bytes(random.below(300))
      : ttrpc
        ? request(random)
        : clientRequest(random);
    const frame = ttrpc
      ? ttrpcFrame(random, body)
      : linkFrame(random.of(Object.values(FromClient)), BigInt(random.number()), body);
    const mutated = random.chance(2) ? frame : mutate(random, frame);
    if (random.chance(200)) socket.write(Buffer.alloc(5 << 20, random.below(256)));
    const cut = random.chance(3) ? random.below(mutated.length) : mutated.length;
    socket.write(mutated.subarray(0, cut));
  }

  /**
   * An order of wherryd. Paths are never changed: keel does as it is told, with any file. STOP would
   * end it.
   */
  #order(): void {
    const random = this.#random;
    const type = random.of(orders);
    const token = BigInt(1 + random.below(TOKENS));
    const connection =
      this.#connections.length > 0 && !random.chance(4)
        ? random.of(this.#connections)
        : BigInt(random.number());
    const isAbout =
      type === ToKeel.CONN_DATA ||
      type === ToKeel.CONN_CLOSE ||
      type === ToKeel.ACTING ||
      type === ToKeel.SPAWN;
    const id =
      type === ToKeel.SPAWN || type === ToKeel.EXIT_ACK || type === ToKeel.DEPOSIT
        ? token
        : isAbout
          ? connection
          : BigInt(random.number());
    let payload = this.#payload(type, token, connection);
    // What follows a cut would become the rest of a path.
    const names = type === ToKeel.LISTEN || type === ToKeel.GO || type === ToKeel.UPGRADE;
    if (!names && random.chance(4)) payload = payload.subarray(0, random.below(payload.length + 1));
    if (random.chance(4)) payload = Buffer.concat([payload, random.bytes(random.below(20))]);
    // Rarely: a length that makes the rest nonsense, after which keel wants another wherryd.
    if (random.chance(3000)) this.#link.socket.write(random.bytes(64));
    else this.#link.send(type, id, payload);
  }

  #payload(type: number, token: bigint, connection: bigint): Buffer {
    const random = this.#random;
    const call = random.chance(2) ? [u64(connection), u32(random.below(6))] : [];
    const join = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts);
    switch (type) {
      case ToKeel.CONN_DATA:
        return random.chance(2)
          ? ttrpcFrame(random, random.bytes(random.below(64)))
          : random.bytes(random.below(300));
      case ToKeel.SPAWN:
        return random.chance(4)
          ? join(
              u32(2000),
              u32(0),
              initTape(token, random.chance(2) ? { exit: 3 } : { first: dieWithParent }),
            )
          : // Never a tape that is almost right: the player does what it says. It has a fuzzer of its own.
            join(u32(2000), u32(0), random.bytes(random.below(200)));
      case ToKeel.SIGNAL:
        return join(u64(token), u32(random.chance(2) ? 9 : random.number()), ...call);
      case ToKeel.GO:
        return join(str(`${this.#harbour.folder}/none`), ...call);
      case ToKeel.LISTEN:
        return join(u64(BigInt(1 + random.below(LISTENERS))), str(this.#path(1 + random.below(LISTENERS))));
      case ToKeel.UNLISTEN:
        return join(u64(BigInt(random.number())));
      case ToKeel.ADOPT:
        return join(u64(token + 100n), u32(random.number()), u64(BigInt(random.number())));
      case ToKeel.UPGRADE:
        return join(u64(connection), str('/nonexistent'), str('/nonexistent'), u32(1), str('/nonexistent'));
      case ToKeel.RESIZE:
        return join(u64(token), u32(random.number()), u32(random.number()));
      case ToKeel.IDLE:
        return join(u32(0));
      case ToKeel.DEPOSIT: {
        const names = [random.of(ids), random.of(['', 'e']), ''].map(str);
        const listener = u64(BigInt(1 + random.below(LISTENERS)));
        return join(listener, u32(random.below(6)), u32(random.number()), ...names, random.bytes(8));
      }
      case ToKeel.READY:
        return join(str('fuzz'));
      default:
        return join(u64(token), u32(random.below(50)));
    }
  }
}

/** Of containers; fewer than are named, so that some are asked for. */
const ids = ['a', 'b', ''];

const orders = Object.values(ToKeel).filter((type) => type !== ToKeel.STOP);

function linkFrame(type: number, id: bigint, body: Uint8Array): Buffer {
  const frame = Buffer.alloc(HEADER + body.length);
  frame.writeUInt32LE(body.length, 0);
  frame.writeUInt16LE(type, 4);
  frame.writeBigUInt64LE(id, 8);
  frame.set(body, HEADER);
  return frame;
}

function ttrpcFrame(random: Random, body: Uint8Array): Buffer {
  const frame = Buffer.alloc(10 + body.length);
  frame.writeUInt32BE(body.length, 0);
  frame.writeUInt32BE(random.below(6), 4);
  frame.writeUInt8(random.of([1, 1, 1, 2, 3, 0, 4, 255]), 8);
  frame.set(body, 10);
  return frame;
}

/** A call that keel might answer. */
function taskRequest(random: Random): Buffer {
  const text = (field: number, value: Uint8Array | string): Buffer =>
    Buffer.concat([Buffer.from([(field << 3) | 2, Buffer.from(value).length]), Buffer.from(value)]);
  const asked = [text(1, random.of(ids)), text(2, random.of(['', 'e'])), Buffer.from([3 << 3, 9])];
  const body = Buffer.concat(asked.slice(0, 1 + random.below(3)));
  const method = random.of(['State', 'Kill', 'Wait', 'Connect', 'Pause']);
  return Buffer.concat([text(1, 'containerd.task.v2.Task'), text(2, method), text(3, body)]);
}

/** ttrpc's Request, with fields of every kind. */
function request(random: Random): Buffer {
  if (random.chance(2)) return taskRequest(random);
  const varint = (value: bigint): number[] => {
    const bytes: number[] = [];
    for (let left = value; ; left >>= 7n) {
      bytes.push(Number(left & 0x7fn) | (left > 0x7fn ? 0x80 : 0));
      if (left <= 0x7fn) return bytes;
    }
  };
  const fields: number[] = [];
  for (let left = random.below(6); left > 0; left--) {
    const field = 1 + random.below(6);
    const text = random.of([Buffer.from('Wait'), Buffer.from('State'), random.bytes(random.below(9))]);
    if (random.chance(3))
      fields.push(
        ...varint(BigInt(field << 3)),
        ...varint(BigInt(random.number()) << BigInt(random.below(33))),
      );
    else
      fields.push(
        ...varint(BigInt((field << 3) | 2)),
        ...varint(BigInt(random.chance(5) ? random.number() : text.length)),
        ...text,
      );
  }
  return Buffer.from(fields);
}

function clientRequest(random: Random): Buffer {
  return Buffer.concat([
    u32(1),
    u32(random.number()),
    u32(18),
    Buffer.alloc(45),
    str('build'),
    str('/'),
    u32(1),
    str('state'),
  ]);
}

/** Bits flipped, numbers put in, parts doubled or taken out. */
function mutate(random: Random, bytes: Buffer): Buffer {
  let result = Buffer.from(bytes);
  for (let left = 1 + random.below(4); left > 0 && result.length > 4; left--) {
    const at = random.below(result.length - 4);
    const kind = random.below(4);
    if (kind === 0) result[at] = result[at]! ^ (1 << random.below(8));
    else if (kind === 1) result.writeUInt32LE(random.number(), at);
    else if (kind === 2)
      result = Buffer.concat([result.subarray(0, at), result.subarray(at + random.below(5))]);
    else result = Buffer.concat([result.subarray(0, at + 4), result.subarray(at)]);
  }
  return result;
}
