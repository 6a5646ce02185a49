/** While wherryd does not come up keel answers what it can from what wherryd has deposited with it. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import {
  ConnectResponse,
  KillRequest,
  PidsResponse,
  StateRequest,
  StateResponse,
  WaitResponse,
} from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Status } from '../../../shim/gen/containerd/v1/types/task.ts';
import { Empty } from '../../../shim/gen/google/protobuf/empty.ts';
import { Request, Response } from '../../../shim/gen/ttrpc/ttrpc.ts';
import { NOT_EXITED } from '../../../shim/task/states.ts';
import { encodeFrame, FrameCutter, FrameType } from '../../../shim/ttrpc/frame.ts';
import { str, u32, u64 } from '../../../src/daemon/frames.ts';
import { FromKeel, ToKeel } from '../../../src/daemon/wire.ts';
import { alive, Harbour, type Link, until } from '../keel/harness.ts';
import { initTape } from '../keel/tapes.ts';

const LISTENER = 5n;
const UNAVAILABLE = 14;
const NOT_FOUND = 5;

interface Deposit {
  id?: string;
  execId?: string;
  status?: Status;
  pid?: number;
  fifo?: string;
  listener?: bigint;
}

/** Of a process that has not ended. */
const responseOf = (id: string, pid: number, status: Status): StateResponse => ({
  id,
  bundle: '/bundle',
  pid,
  status,
  stdin: '',
  stdout: '/out',
  stderr: '/err',
  terminal: false,
  exitStatus: 0,
  exitedAt: NOT_EXITED,
  execId: '',
});

function deposit(link: Link, token: bigint, { id = 'c', execId = '', ...rest }: Deposit = {}): void {
  const { status = Status.CREATED, pid = 0, fifo = '', listener = LISTENER } = rest;
  const state = StateResponse.encode(responseOf(execId === '' ? id : execId, pid, status)).finish();
  const names = [str(id), str(execId), str(fifo)];
  link.send(ToKeel.DEPOSIT, token, u64(listener), u32(status), u32(pid), ...names, state);
}

/** containerd's side of a connection. */
class Caller {
  readonly #socket: Socket;
  readonly answers = new Map<number, Response>();
  #stream = -1;

  constructor(socket: Socket) {
    this.#socket = socket;
    const cutter = new FrameCutter(
      ({ streamId, payload }) => {
        assert.equal(this.answers.has(streamId), false, 'one answer for a call');
        this.answers.set(streamId, Response.decode(payload));
      },
      () => assert.fail('a frame over the limit'),
    );
    socket.on('data', (bytes: Buffer) => cutter.push(bytes));
  }

  ask(method: string, payload: Uint8Array, service = 'containerd.task.v2.Task'): number {
    this.#stream += 2;
    const request = { service, method, payload: Buffer.from(payload), timeoutNano: 0n, metadata: [] };
    const body = Request.encode(request).finish();
    this.#socket.write(encodeFrame(this.#stream, FrameType.REQUEST, 0, body));
    return this.#stream;
  }

  async answer(stream: number): Promise<Response> {
    return until(`the answer to ${stream}`, () => this.answers.get(stream));
  }

  async call(method: string, payload: Uint8Array, service?: string): Promise<Response> {
    return this.answer(this.ask(method, payload, service));
  }

  async state(execId = '', id = 'c', service?: string): Promise<StateResponse> {
    const { status, payload } = await this.call(
      'State',
      StateRequest.encode({ id, execId }).finish(),
      service,
    );
    assert.equal(status?.code ?? 0, 0, status?.message);
    return StateResponse.decode(payload);
  }

  async kill(signal: number, execId = '', id = 'c'): Promise<number> {
    const { status } = await this.call(
      'Kill',
      KillRequest.encode({ id, execId, signal, all: false }).finish(),
    );
    return status?.code ?? 0;
  }
}

const named = (id: string, execId = ''): Uint8Array => StateRequest.encode({ id, execId }).finish();

async function caller(harbour: Harbour): Promise<Caller> {
  return new Caller((await harbour.connect(`${harbour.folder}/t.sock`)).socket);
}

async function listening(harbour: Harbour, link: Link): Promise<void> {
  assert.equal((await link.listen(LISTENER, `${harbour.folder}/t.sock`)).result, 0);
}

/** Until keel refuses calls: the wherryd that runs, and two after it that were never ready, are ended. */
async function loop(harbour: Harbour): Promise<void> {
  for (let starts = 0; starts < 2; starts++) {
    process.kill(harbour.started().pid, 'SIGKILL');
    await harbour.wherryd(false);
  }
  process.kill(harbour.started().pid, 'SIGKILL');
}

test('State tells what keel sees: pid, start, exit', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  await listening(harbour, link);
  const waiting = `${harbour.folder}/exec.fifo`;
  writeFileSync(waiting, '');
  deposit(link, 1n, { fifo: waiting, id: 'before' });
  deposit(link, 1n, { fifo: waiting });
  deposit(link, 2n, { execId: 'e' });
  deposit(link, 3n, { execId: 'never' });
  link.spawn(1n, initTape(1n));
  link.spawn(2n, initTape(2n, { exit: 3 }));
  const { pid } = await link.registered(1n);
  const { time } = await link.exited(2n);
  // Its exit is written down and its registration forgotten: the deposit remembers.
  link.send(ToKeel.EXIT_ACK, 2n);
  await link.status();
  await loop(harbour);
  const asked = await caller(harbour);
  const created = await asked.state();
  assert.deepEqual(created, responseOf('c', pid, Status.CREATED));
  rmSync(waiting);
  assert.equal((await asked.state('', 'c', 'containerd.task.v3.Task')).status, Status.RUNNING);
  const ended = await asked.state('e');
  assert.deepEqual([ended.status, ended.exitStatus, ended.id], [Status.STOPPED, 3, 'e']);
  assert.equal(ended.exitedAt?.getTime(), Number(time / 1_000_000n));
  const never = await asked.state('never');
  assert.deepEqual([never.status, never.pid], [Status.CREATED, 0]);
  const connected = ConnectResponse.decode((await asked.call('Connect', named('c'))).payload);
  assert.deepEqual([connected.taskPid, connected.shimPid], [pid, harbour.keel?.pid]);
  const { processes } = PidsResponse.decode((await asked.call('Pids', named('c'))).payload);
  assert.deepEqual(
    processes.map((one) => one.pid),
    [pid],
    'of execs those that run',
  );
  process.kill(pid, 'SIGKILL');
});

test('Kill with SIGKILL and Wait need no wherryd; whatever else is asked gets code 14', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  await listening(harbour, link);
  for (const token of [1n, 2n]) {
    deposit(link, token, token === 1n ? {} : { execId: 'frozen', status: Status.PAUSED });
    link.spawn(token, initTape(token));
  }
  const { pid } = await link.registered(1n);
  const frozen = await link.registered(2n);
  // Of another containerd's namespace, by the same names.
  deposit(link, 9n, { id: 'other', listener: LISTENER + 1n });
  await link.status();
  await loop(harbour);
  const asked = await caller(harbour);
  const wait = asked.ask('Wait', named('c'));
  const before = await asked.call('Pause', named('c'));
  assert.equal(before.status?.code, UNAVAILABLE);
  assert.match(before.status?.message ?? '', /wherryd does not come up/);
  for (const signal of [0, 15, 64]) assert.equal(await asked.kill(signal), UNAVAILABLE);
  assert.equal(await asked.kill(9, 'frozen'), UNAVAILABLE, 'a frozen process may not get it');
  assert.equal(await asked.kill(9, '', 'other'), UNAVAILABLE, 'another listener');
  assert.equal(await asked.kill(9, 'none'), UNAVAILABLE);
  assert.equal((await asked.call('State', named('c'), 'other.Task')).status?.code, UNAVAILABLE);
  assert.equal(asked.answers.has(wait), false, 'it runs');
  assert.equal(alive(pid), true);
  assert.equal(await asked.kill(9), 0);
  const { exitStatus, exitedAt } = WaitResponse.decode((await asked.answer(wait)).payload);
  assert.equal(exitStatus, 137);
  const ended = await asked.state();
  assert.deepEqual([ended.status, ended.exitStatus, ended.pid], [Status.STOPPED, 137, pid]);
  assert.deepEqual(ended.exitedAt, exitedAt);
  assert.equal(await asked.kill(9), NOT_FOUND, 'it has ended');
  assert.equal(WaitResponse.decode((await asked.call('Wait', named('c'))).payload).exitStatus, 137);
  process.kill(frozen.pid, 'SIGKILL');
});

test('a Kill that a wherryd has done before its end is answered, and not done again', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  await listening(harbour, link);
  deposit(link, 1n);
  link.spawn(1n, initTape(1n));
  const { pid } = await link.registered(1n);
  const asked = await caller(harbour);
  const { id } = await link.inbox.take(FromKeel.CONN_OPEN);
  const stream = asked.ask(
    'Kill',
    KillRequest.encode({ id: 'c', execId: '', signal: 23, all: false }).finish(),
  );
  await link.inbox.take(FromKeel.CONN_DATA, id);
  assert.equal((await link.order(ToKeel.SIGNAL, u64(1n), u32(23), u64(id), u32(stream))).result, 0);
  await loop(harbour);
  const { status, payload } = await asked.answer(stream);
  assert.deepEqual([status, Empty.decode(payload)], [undefined, {}]);
  assert.equal(await asked.kill(23), UNAVAILABLE, 'another call');
  const last = await harbour.wherryd();
  await last.inbox.take(FromKeel.CONN_OPEN, id);
  await last.status();
  assert.equal(last.inbox.takeNow(FromKeel.CONN_DATA, id), undefined, 'it has its answer');
  process.kill(pid, 'SIGKILL');
  await last.exited(1n);
});

test('deposits outlive an upgrade of keel; what was released, and what the next wherryd does not name, is forgotten', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  await listening(harbour, link);
  for (const token of [1n, 2n, 3n]) deposit(link, token, { execId: `e${token}` });
  link.spawn(1n, initTape(1n, { exit: 4 }));
  await link.exited(1n);
  link.send(ToKeel.EXIT_ACK, 1n);
  await link.order(ToKeel.RELEASE, u64(3n), u32(0));
  process.kill(harbour.keel!.pid!, 'SIGHUP');
  const upgraded = await harbour.wherryd(false);
  for (const token of [1n, 2n]) deposit(upgraded, token, { execId: `e${token}` });
  upgraded.send(ToKeel.READY, 0n, str('test'));
  await upgraded.status();
  await loop(harbour);
  const asked = await caller(harbour);
  const state = await asked.state('e1');
  assert.deepEqual([state.status, state.exitStatus], [Status.STOPPED, 4]);
  assert.equal((await asked.state('e2')).status, Status.CREATED);
  assert.equal((await asked.call('State', named('c', 'e3'))).status?.code, UNAVAILABLE);
  const back = await harbour.wherryd(false);
  deposit(back, 2n, { execId: 'e2' });
  back.send(ToKeel.READY, 0n, str('test'));
  await back.status();
  await loop(harbour);
  assert.equal((await asked.state('e2')).status, Status.CREATED);
  assert.equal((await asked.call('State', named('c', 'e1'))).status?.code, UNAVAILABLE);
});

test('a command of the client ends with the reason', async () => {
  const { harbour, link } = await Harbour.start('plain');
  await using _ = harbour;
  harbour.installLibexec();
  link.spawn(1n, initTape(1n));
  const { pid } = await link.registered(1n);
  const early = harbour.client(['list']);
  await link.inbox.take(FromKeel.CONN_DATA);
  await loop(harbour);
  const late = harbour.client(['list']);
  for (const client of [early, late]) {
    assert.equal(await client.end(), 1);
    assert.match(client.stderr, /^wherry: wherryd does not come up/);
  }
  process.kill(pid, 'SIGKILL');
});
