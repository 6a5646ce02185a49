/** wherryd's end of one client connection: turns frames into a ClientSession for the commands. */
import type { ClientRequest, ClientSession, RelayHandlers } from '../cli/session.ts';
import type { NotifyOrder, PlayOptions, PlayResult } from '../container/play.ts';
import { WherryError } from '../errors.ts';
import { encodeFrame, FieldReader, type Frame, FrameReader, u32 } from './frames.ts';
import { FromClient, NotifyFlags, PlayFlags, PROTOCOL_VERSION, ToClient, WaitFlags } from './wire.ts';

/** RLIMIT_* 0 to 15, getrlimit(2). */
const RLIMITS = 16;
/** Bytes; a frame to keel holds some megabytes. */
const MOST_UNSENT = 1 << 20;
/** Every client goes in the end: to take a stack each time would cost more than the rest of its going. */
const gone = new WherryError('canceled', 'the client has gone');

export class ClientLink implements ClientSession {
  readonly kind = 'client';
  readonly #write: (bytes: Uint8Array) => void;
  readonly #unsent: Buffer[] = [];
  #unsentBytes = 0;
  readonly #onRequest: (session: ClientSession) => void;
  readonly #reader = new FrameReader((frame) => this.#dispatch(frame));
  readonly #abort = new AbortController();
  readonly #peer: { pid: number; uid: number; gid: number };
  #request: ClientRequest | undefined;
  /** Answers come in the order of the orders. */
  readonly #plays: PromiseWithResolvers<PlayResult>[] = [];
  #wait: PromiseWithResolvers<number> | undefined;
  /** A wait that went out together with its play. */
  #orderedWait: Promise<number> | undefined;
  /** The tape that it plays after that. */
  #cleanup: { answer: PromiseWithResolvers<PlayResult>; onGone: (() => void) | undefined } | undefined;
  /** What came before anybody asked: a client that is served anew has sent its input to the last wherryd. */
  readonly #early: Buffer[] = [];
  /** Of RELAY: where input and sizes go from then on. */
  #relay: RelayHandlers | undefined;
  #stdin: { chunks: Buffer[]; resolve: (data: Buffer) => void; reject: (error: Error) => void } | undefined;

  constructor(
    peer: { pid: number; uid: number; gid: number },
    send: (bytes: Uint8Array) => void,
    onRequest: (session: ClientSession) => void,
  ) {
    this.#peer = peer;
    this.#write = send;
    this.#onRequest = onRequest;
  }

  get request(): ClientRequest {
    if (this.#request === undefined)
      throw new WherryError('internal', 'the client has not sent its request yet');
    return this.#request;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /**
   * What is sent in one turn goes in one frame, which keel takes as a whole or not at all: a command that is begun anew after the death of this
   * process has then said either all of its last words or none.
   */
  #send(bytes: Buffer): void {
    if (this.#abort.signal.aborted) return;
    if (this.#unsent.length === 0) queueMicrotask(() => this.#flush());
    this.#unsent.push(bytes);
    this.#unsentBytes += bytes.length;
    if (this.#unsentBytes > MOST_UNSENT) this.#flush();
  }

  #flush(): void {
    const frames = this.#unsent.splice(0);
    this.#unsentBytes = 0;
    if (frames.length > 0) this.#write(frames.length === 1 ? frames[0]! : Buffer.concat(frames));
  }

  /** Bytes from keel: whole client frames. */
  receive(bytes: Buffer): void {
    this.#reader.push(bytes);
  }

  closed(): void {
    this.#abort.abort(gone);
    for (const play of this.#plays.splice(0)) play.reject(gone);
    this.#wait?.reject(gone);
    this.#stdin?.reject(gone);
  }

  out(descriptor: 1 | 2, data: string | Uint8Array): void {
    const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
    this.#send(encodeFrame(ToClient.OUT, 0n, Uint8Array.of(descriptor), bytes));
  }

  /** The client plays one tape at a time, so the token (which keel needs) says nothing here. */
  play(_token: bigint, tape: Uint8Array, options: PlayOptions): Promise<PlayResult> {
    if (this.#abort.signal.aborted) return Promise.reject(gone);
    const flags =
      (options.inProcess === true ? PlayFlags.IN_PROCESS : 0) |
      (options.console === true ? PlayFlags.CONSOLE : 0) |
      ((options.preserve ?? 0) << PlayFlags.PRESERVE_SHIFT);
    const answer = Promise.withResolvers<PlayResult>();
    this.#plays.push(answer);
    if (options.next === undefined) {
      this.#send(encodeFrame(ToClient.PLAY, 0n, u32(flags), tape));
      return answer.promise;
    }
    return this.#playAndGoOn(encodeFrame(ToClient.PLAY, 0n, u32(flags), tape), options.next, answer.promise);
  }

  /** Play, wait and clean-up go out in one write; the client drops the last two when the play fails. */
  async #playAndGoOn(
    frame: Buffer,
    next: NonNullable<PlayOptions['next']>,
    answer: Promise<PlayResult>,
  ): Promise<PlayResult> {
    const flags = next.waitFlags | (next.onGone === undefined ? 0 : WaitFlags.END);
    const wait = encodeFrame(ToClient.WAIT, 0n, u32(0), u32(flags));
    const last =
      next.cleanup === undefined
        ? Buffer.alloc(0)
        : encodeFrame(ToClient.PLAY, 0n, u32(PlayFlags.IN_PROCESS | PlayFlags.AFTER_EXIT), next.cleanup);
    this.#wait = Promise.withResolvers();
    this.#wait.promise.catch(() => {});
    this.#orderedWait = this.#wait.promise;
    let cleanup: PromiseWithResolvers<PlayResult> | undefined;
    if (next.cleanup !== undefined) {
      cleanup = Promise.withResolvers();
      cleanup.promise.catch(() => {});
      this.#plays.push(cleanup);
      this.#cleanup = { answer: cleanup, onGone: next.onGone };
    }
    this.#send(Buffer.concat([frame, wait, last]));
    const result = await answer;
    if (result.waitStatus !== 0) {
      this.#orderedWait = undefined;
      this.#wait = undefined;
      if (cleanup !== undefined) this.#plays.splice(this.#plays.indexOf(cleanup), 1);
      return result;
    }
    return { ...result, cleanup: cleanup?.promise.catch(() => undefined) };
  }

  wait(pid: number, flags: number): Promise<number> {
    // Its answer may have come before the client ended.
    if (this.#orderedWait !== undefined) return this.#orderedWait;
    if (this.#abort.signal.aborted) return Promise.reject(gone);
    this.#wait = Promise.withResolvers();
    this.#send(encodeFrame(ToClient.WAIT, 0n, u32(pid), u32(flags)));
    return this.#wait.promise;
  }

  async reap(pid: number): Promise<void> {
    await this.wait(pid, 0);
  }

  notify({ container, manager, init, staying }: NotifyOrder): void {
    const flags = staying ? NotifyFlags.STAYING : 0;
    this.#send(encodeFrame(ToClient.NOTIFY, 0n, u32(flags), u32(container), u32(manager), u32(init)));
  }

  readStdin(): Promise<Buffer> {
    const early = this.#early.splice(0);
    if (early.at(-1)?.length === 0) return Promise.resolve(Buffer.concat(early));
    return new Promise((resolve, reject) => {
      this.#stdin = { chunks: [], resolve, reject };
      this.#send(encodeFrame(ToClient.READ_STDIN, 0n));
    });
  }

  relay(raw: boolean, handlers: RelayHandlers): void {
    this.#relay = handlers;
    this.#send(encodeFrame(ToClient.RELAY, 0n, u32(raw ? 1 : 0)));
  }

  exit(code: number): void {
    this.#send(encodeFrame(ToClient.EXIT, 0n, u32(code)));
  }

  #played(result: PlayResult): void {
    const play = this.#plays.shift();
    if (play !== undefined && play === this.#cleanup?.answer && result.waitStatus === 0)
      this.#cleanup.onGone?.();
    play?.resolve(result);
  }

  #dispatch(frame: Frame): void {
    const fields = new FieldReader(frame.payload);
    switch (frame.type) {
      case FromClient.REQUEST:
        if (this.#request !== undefined) return;
        this.#request = readRequest(fields, this.#peer);
        this.#onRequest(this);
        return;
      case FromClient.PLAYED:
        this.#played({ waitStatus: fields.i32(), page: fields.rest() });
        return;
      case FromClient.EXITED: {
        const wait = this.#wait;
        this.#wait = undefined;
        wait?.resolve(fields.i32());
        return;
      }
      case FromClient.RESIZED:
        this.#relay?.resized?.(fields.u16(), fields.u16());
        return;
      case FromClient.STDIN: {
        if (this.#relay !== undefined) {
          this.#relay.input(frame.payload.length > 0 ? Buffer.from(frame.payload) : undefined);
          return;
        }
        const stdin = this.#stdin;
        if (stdin === undefined) {
          this.#early.push(Buffer.from(frame.payload));
          return;
        }
        if (frame.payload.length > 0) {
          stdin.chunks.push(Buffer.from(frame.payload));
          return;
        }
        this.#stdin = undefined;
        stdin.resolve(Buffer.concat(stdin.chunks));
        return;
      }
      default:
        return;
    }
  }
}

function readRlimits(bytes: Buffer): ClientRequest['rlimits'] {
  const fields = new FieldReader(bytes);
  return Array.from({ length: RLIMITS }, () => [fields.u64(), fields.u64()] as const);
}

function readRequest(fields: FieldReader, peer: { pid: number; uid: number; gid: number }): ClientRequest {
  const version = fields.u32();
  if (version !== PROTOCOL_VERSION) {
    throw new WherryError(
      'failed-precondition',
      `the client speaks version ${version} of the link, wherryd ${PROTOCOL_VERSION}`,
      {
        hint: 'client and wherryd are of different builds: run `wherry daemon stop`, then try again',
      },
    );
  }
  const pid = fields.u32();
  const umask = fields.u32();
  const tty = fields.u8();
  const rows = fields.u16();
  const cols = fields.u16();
  const namespaces = {
    mnt: fields.u64(),
    user: fields.u64(),
    pid: fields.u64(),
    net: fields.u64(),
    cgroup: fields.u64(),
  };
  const build = fields.str();
  const cwd = fields.str();
  const argv = Array.from({ length: fields.u32() }, () => fields.str());
  const env: Record<string, string> = {};
  for (let left = fields.u32(); left > 0; left--) {
    const entry = fields.str();
    const equals = entry.indexOf('=');
    if (equals > 0) env[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  const rlimits = fields.bytes(RLIMITS * 16);
  return {
    pid: peer.pid === 0 ? pid : peer.pid,
    uid: peer.uid,
    gid: peer.gid,
    umask,
    isTerminal: [(tty & 1) !== 0, (tty & 2) !== 0, (tty & 4) !== 0],
    rows,
    cols,
    namespaces,
    build,
    cwd,
    argv,
    env,
    // Only what makes a process asks for them.
    get rlimits() {
      return readRlimits(rlimits);
    },
    oomScoreAdj: fields.i32(),
    nice: fields.i32(),
  };
}
