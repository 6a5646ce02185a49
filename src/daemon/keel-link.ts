/**
 * wherryd's end of the link to keel: orders with replies, plays, exits, connections. One object for the life of wherryd.
 * keel owns every socket and every child; what wherryd wants done with them it asks for here.
 */
import type { PlayHost, PlayOptions, PlayResult } from '../container/play.ts';
import { WherryError } from '../errors.ts';
import { boundary } from '../fault.ts';
import { encodeFrame, FieldReader, type Frame, FrameReader, str, u32, u64 } from './frames.ts';
import { LinkSocket } from './link-socket.ts';
import { FromKeel, ToClient, ToKeel } from './wire.ts';

/** A registered init ended. */
export interface KeelExit {
  token: bigint;
  waitStatus: number;
  /** False: the kernel gave keel no status (not its child, kernel before 6.15). */
  known: boolean;
  time: Date;
}

export interface KeelRegistration {
  token: bigint;
  pid: number;
  pidfdInode: bigint;
  startTime: bigint;
}

export interface KeelConnection {
  id: bigint;
  kind: number;
  pid: number;
  uid: number;
  gid: number;
  /** The listener it came through; 0 for clients. */
  listener: bigint;
}

export interface KeelStatus {
  pid: number;
  registered: number;
  players: number;
  connections: number;
  startedAt: Date;
  /** The last upgrade: who asked for it, and whether it was gone back from. */
  upgrade: KeelUpgrade;
}

export interface KeelUpgrade {
  /** The client's connection; 0: there was none, or nobody asked. */
  connection: bigint;
  /** 0: done; -errno: the programs before are back. */
  result: number;
  /** Why. */
  text: string;
}

/** Programs to go on with. */
export interface KeelPrograms {
  keel: string;
  player: string;
  /** Of wherryd, with its arguments. */
  command: readonly string[];
}

/** What keel may tell of a process while there is no wherryd (docs/internals.md, DEPOSIT). */
export interface Deposit {
  /** Through which it is asked for. */
  listener: bigint;
  id: string;
  /** '': the init. */
  execId: string;
  /** containerd.v1.types.Status. */
  status: number;
  /** 0: none yet. */
  pid: number;
  /** Gone once the init was let go; '': nothing to let go. */
  fifo: string;
  /** The whole answer to task.State. */
  state: Uint8Array;
}

export interface KeelLinkHandlers {
  onHello(hello: { bootId: bigint; service: boolean; build: string; runDir: string }): void;
  onOpen(connection: KeelConnection): void;
  onData(connection: bigint, bytes: Buffer): void;
  onClose(connection: bigint): void;
  onRegistered(registration: KeelRegistration): void;
  onExit(exit: KeelExit): void;
  /** keel is gone: wherryd has no reason to stay. */
  onLost(): void;
}

interface Pending {
  resolve: (reply: { result: number; body: Buffer }) => void;
}

export class KeelLink implements PlayHost {
  readonly kind = 'keel';
  readonly #socket: LinkSocket;
  readonly #handlers: KeelLinkHandlers;
  readonly #requests = new Map<bigint, Pending>();
  readonly #plays = new Map<bigint, (result: PlayResult) => void>();
  #nextRequest = 1n;

  constructor(descriptor: number, handlers: KeelLinkHandlers) {
    this.#handlers = handlers;
    const reader = new FrameReader((frame) => this.#take(frame));
    this.#socket = new LinkSocket(descriptor, {
      onData: (bytes) => reader.push(bytes),
      onLost: () => handlers.onLost(),
    });
  }

  ready(build: string): void {
    this.#write(ToKeel.READY, 0n, str(build));
  }

  /** Writes whole frames to a connection that keel owns. */
  send(connection: bigint, bytes: Uint8Array): void {
    this.#write(ToKeel.CONN_DATA, connection, bytes);
  }

  closeConnection(connection: bigint): void {
    this.#write(ToKeel.CONN_CLOSE, connection);
  }

  play(token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult> {
    if (this.#plays.has(token)) {
      throw new WherryError('internal', `token ${token} is being played already`);
    }
    return new Promise((resolve) => {
      this.#plays.set(token, resolve);
      this.#write(ToKeel.SPAWN, token, u32(options.deadline ?? 0), u32(0), tape);
    });
  }

  acknowledgeExit(token: bigint): void {
    this.#write(ToKeel.EXIT_ACK, token);
  }

  /** 0, or -errno (-3 ESRCH: gone). */
  async signal(token: bigint, signal: number, call?: string): Promise<number> {
    return (await this.#request(ToKeel.SIGNAL, u64(token), u32(signal), ...callOf(call))).result;
  }

  /** Opens the exec FIFO, which lets the created init go on. 0, or -errno (-6 ENXIO: nobody waits there). */
  async go(fifo: string, call?: string): Promise<number> {
    return (await this.#request(ToKeel.GO, str(fifo), ...callOf(call))).result;
  }

  async cancel(token: bigint): Promise<number> {
    return (await this.#request(ToKeel.CANCEL, u64(token))).result;
  }

  async adopt(token: bigint, pid: number, startTime: bigint): Promise<number> {
    return (await this.#request(ToKeel.ADOPT, u64(token), u32(pid), u64(startTime))).result;
  }

  /** A client's command begins: it must not be begun again after the death of this process. `soon`: it will have to play a tape. */
  acting(connection: bigint, soon: boolean): void {
    if (!soon) {
      this.#write(ToKeel.ACTING, connection);
      return;
    }
    boundary('order', ToKeel.ACTING);
    const word = encodeFrame(ToKeel.CONN_DATA, connection, encodeFrame(ToClient.SOON, 0n));
    this.#socket.write(Buffer.concat([encodeFrame(ToKeel.ACTING, connection), word]));
    boundary('ordered', ToKeel.ACTING);
  }

  /** In one write with what follows in this turn: mostly the answer of the call that made it. */
  deposit(token: bigint, { listener, status, pid, id, execId, fifo, state }: Deposit): void {
    this.#socket.together();
    const names = [str(id), str(execId), str(fifo)];
    this.#write(ToKeel.DEPOSIT, token, u64(listener), u32(status), u32(pid), ...names, state);
  }

  async listen(listener: bigint, path: string): Promise<number> {
    return (await this.#request(ToKeel.LISTEN, u64(listener), str(path))).result;
  }

  async unlisten(listener: bigint): Promise<number> {
    return (await this.#request(ToKeel.UNLISTEN, u64(listener))).result;
  }

  async closeStdin(token: bigint): Promise<number> {
    return (await this.#request(ToKeel.CLOSE_STDIN, u64(token))).result;
  }

  /** With `drain` (ms) only once keel has copied what an ended process wrote, or after that time. */
  async release(token: bigint, drain = 0): Promise<number> {
    return (await this.#request(ToKeel.RELEASE, u64(token), u32(drain))).result;
  }

  /** Size of a terminal. 0, or -errno (-3 ESRCH: gone, -25 ENOTTY: it has none). */
  async resize(token: bigint, rows: number, cols: number): Promise<number> {
    return (await this.#request(ToKeel.RESIZE, u64(token), u32(rows), u32(cols))).result;
  }

  idleAfter(seconds: number): void {
    this.#write(ToKeel.IDLE, 0n, u32(seconds));
  }

  /** 0, or -errno (-16 EBUSY: containers run). With force keel ends everything, this process included. */
  async stop(force: boolean): Promise<number> {
    return (await this.#request(ToKeel.STOP, u32(force ? 1 : 0))).result;
  }

  async status(): Promise<KeelStatus> {
    const { body } = await this.#request(ToKeel.STATUS);
    const fields = new FieldReader(body);
    return {
      pid: fields.u32(),
      registered: fields.u32(),
      players: fields.u32(),
      connections: fields.u32(),
      startedAt: nanosecondsToDate(fields.u64()),
      upgrade: { connection: fields.u64(), result: fields.i32(), text: fields.str() },
    };
  }

  /**
   * keel goes on as another program, with another wherryd. Answers only when that cannot be: 0 never comes, since the next wherryd
   * gets the call of `connection` again and finds the outcome in the status.
   */
  async upgrade(
    connection: bigint,
    { keel, player, command }: KeelPrograms,
  ): Promise<{ result: number; text: string }> {
    const { result, body } = await this.#request(
      ToKeel.UPGRADE,
      u64(connection),
      str(keel),
      str(player),
      u32(command.length),
      ...command.map((word) => str(word)),
    );
    return { result, text: body.toString('utf8') };
  }

  #request(type: number, ...parts: Uint8Array[]): Promise<{ result: number; body: Buffer }> {
    const id = this.#nextRequest++;
    return new Promise((resolve) => {
      this.#requests.set(id, { resolve });
      this.#write(type, id, ...parts);
    });
  }

  #write(type: number, id: bigint, ...parts: Uint8Array[]): void {
    boundary('order', type);
    this.#socket.write(encodeFrame(type, id, ...parts));
    boundary('ordered', type);
  }

  #take(frame: Frame): void {
    // When keel asks is a matter of time, not of what was done.
    if (frame.type === FromKeel.PING) return void this.#socket.write(encodeFrame(ToKeel.PONG, frame.id));
    boundary('told', frame.type);
    this.#dispatch(frame);
    boundary('heard', frame.type);
  }

  #dispatch(frame: Frame): void {
    const fields = new FieldReader(frame.payload);
    switch (frame.type) {
      case FromKeel.HELLO: {
        fields.u32();
        const flags = fields.u32();
        this.#handlers.onHello({
          bootId: frame.id,
          service: (flags & 1) !== 0,
          build: fields.str(),
          runDir: fields.str(),
        });
        return;
      }
      case FromKeel.CONN_OPEN:
        this.#handlers.onOpen({
          id: frame.id,
          kind: fields.u8(),
          pid: fields.u32(),
          uid: fields.u32(),
          gid: fields.u32(),
          listener: fields.u64(),
        });
        return;
      case FromKeel.CONN_DATA:
        this.#handlers.onData(frame.id, frame.payload);
        return;
      case FromKeel.CONN_CLOSE:
        this.#handlers.onClose(frame.id);
        return;
      case FromKeel.PLAYED: {
        const resolve = this.#plays.get(frame.id);
        this.#plays.delete(frame.id);
        resolve?.({ waitStatus: fields.i32(), page: fields.rest() });
        return;
      }
      case FromKeel.REGISTERED:
        this.#handlers.onRegistered({
          token: frame.id,
          pid: fields.u32(),
          pidfdInode: fields.u64(),
          startTime: fields.u64(),
        });
        return;
      case FromKeel.EXIT:
        this.#handlers.onExit({
          token: frame.id,
          waitStatus: fields.i32(),
          known: fields.u8() !== 0,
          time: nanosecondsToDate(fields.u64()),
        });
        return;
      case FromKeel.REPLY: {
        const pending = this.#requests.get(frame.id);
        this.#requests.delete(frame.id);
        pending?.resolve({ result: fields.i32(), body: fields.rest() });
        return;
      }
      default:
        // A newer keel may say more than this build knows.
        return;
    }
  }
}

/** The connection and stream that a request id of ttrpc names (shim/ttrpc/server.ts); nothing for other callers. */
function callOf(requestId: string | undefined): Uint8Array[] {
  const [, connection, stream] = /^(\d+)\.(\d+)$/.exec(requestId ?? '') ?? [];
  return connection === undefined || stream === undefined
    ? []
    : [u64(BigInt(connection)), u32(Number(stream))];
}

function nanosecondsToDate(nanoseconds: bigint): Date {
  return new Date(Number(nanoseconds / 1_000_000n));
}
