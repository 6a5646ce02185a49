/** What keel copies: pipes and terminals to FIFOs and back, with real processes; late, vanished and missing readers. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { StdioPlan, StreamTarget } from '../../../src/container/stdio.ts';
import { u32, u64 } from '../../../src/daemon/frames.ts';
import { ToKeel } from '../../../src/daemon/wire.ts';
import { eventually } from '../../support/run.ts';
import { alive, type Build, builds, Harbour, type Link, until } from '../keel/harness.ts';
import { processTape } from './tapes.ts';

const ENOTTY = 25;
const ESRCH = 3;
const nothing: StreamTarget = { type: 'null' };

function fifo(harbour: Harbour, name: string): { type: 'fifo'; path: string } {
  const path = `${harbour.folder}/${name}`;
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  return { type: 'fifo', path };
}

const piped = (stdout: StreamTarget, stderr: StreamTarget = nothing): StdioPlan => ({
  kind: 'paths',
  stdin: nothing,
  stdout,
  stderr,
  copied: true,
});

/** A client's end of a FIFO. */
class Reader implements Disposable {
  readonly #cat: ChildProcess;
  bytes = 0;
  text = '';
  ended = false;

  constructor(path: string) {
    this.#cat = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#cat.stdout?.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      if (this.text.length < 1 << 20) this.text += chunk.toString();
    });
    this.#cat.on('close', () => {
      this.ended = true;
    });
  }

  end(): Promise<boolean> {
    return until('the end of the stream', () => this.ended);
  }

  async leave(): Promise<void> {
    this.#cat.kill('SIGKILL');
    await this.end();
  }

  [Symbol.dispose](): void {
    this.#cat.kill('SIGKILL');
  }
}

async function start(link: Link, token: bigint, stdio: StdioPlan, args: readonly string[]): Promise<number> {
  link.spawn(token, processTape(token, stdio, args));
  assert.equal((await link.played(token)).status, 0);
  return (await link.registered(token)).pid;
}

const script = (text: string) => ['/bin/sh', '-c', text];

function openIn(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

for (const which of Object.keys(builds) as Build[]) {
  const megabytes = which === 'plain' ? 64 : 4;

  test(`${megabytes} MiB from a pipe arrive whole, then the end (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    using reader = new Reader(out.path);
    await start(link, 1n, piped(out), script(`head -c ${megabytes}M /dev/zero`));
    await reader.end();
    assert.equal(reader.bytes, megabytes << 20);
    assert.equal((await link.exited(1n)).status, 0);
  });

  test(`an exit is told while nobody reads; a late reader gets all (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const [out, err] = [fifo(harbour, 'out'), fifo(harbour, 'err')];
    await start(link, 1n, piped(out, err), script('head -c 100000 /dev/zero; echo problem >&2; exit 4'));
    assert.equal((await link.exited(1n)).status, 4 << 8);
    link.send(ToKeel.EXIT_ACK, 1n);
    using reader = new Reader(out.path);
    await reader.end();
    assert.equal(reader.bytes, 100_000);
    using problems = new Reader(err.path);
    await problems.end();
    assert.equal(problems.text, 'problem\n');
    await until(
      'keel forgets it',
      () => !openIn(harbour.keel?.pid ?? 0).some((path) => path.includes('/out')),
    );
  });

  test(`the player of a process that has ended is nobody who reads its stream (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const [terminal, direct] = [fifo(harbour, 'terminal'), fifo(harbour, 'direct')];
    const plans: [bigint, StdioPlan][] = [
      [1n, { kind: 'terminal', stdin: nothing, stdout: terminal }],
      [2n, { kind: 'paths', stdin: nothing, stdout: direct, stderr: nothing }],
    ];
    for (const [token, plan] of plans) link.spawn(token, processTape(token, plan, script('echo hello'), 500));
    for (const [token] of plans) {
      assert.equal((await link.exited(token)).status, 0);
      assert.equal((await link.played(token)).status, 0);
    }
    for (const { path } of [terminal, direct]) {
      using reader = new Reader(path);
      await reader.end();
      assert.equal(reader.text.trimEnd(), 'hello');
    }
  });

  test(`a reader that goes away costs nothing: the next one goes on (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    const pid = await start(link, 1n, piped(out), script('echo first; exec sleep 1000'));
    using first = new Reader(out.path);
    await until('the first words', () => first.text === 'first\n');
    await first.leave();
    assert.ok(alive(pid));
    await start(link, 2n, piped(out), script('head -c 200000 /dev/zero; echo last'));
    using second = new Reader(out.path);
    await until('all of it', () => second.bytes === 200_005);
    assert.ok(alive(pid), 'no SIGPIPE');
    process.kill(pid, 'SIGKILL');
    await second.end();
  });

  test(`what a process leaves behind holds its stream until RELEASE, which waits as told (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    using reader = new Reader(out.path);
    await start(link, 1n, piped(out), script('sleep 1000 & echo $!'));
    assert.equal((await link.exited(1n)).status, 0);
    link.send(ToKeel.EXIT_ACK, 1n);
    const left = Number(await until('its output', () => reader.text));
    assert.ok(alive(left));
    assert.equal((await link.order(ToKeel.RELEASE, u64(1n), u32(50))).result, 0);
    await reader.end();
    assert.ok(alive(left), 'only the stream has ended');
    process.kill(left, 'SIGKILL');
    assert.equal((await link.order(ToKeel.RELEASE, u64(1n), u32(50))).result, -ESRCH);
  });

  test(`RELEASE with a time waits until the reader has what was copied (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    await start(link, 1n, piped(out), script('head -c 100000 /dev/zero'));
    await link.exited(1n);
    let released = false;
    const order = link.order(ToKeel.RELEASE, u64(1n), u32(60_000)).then(({ result }) => {
      released = true;
      return result;
    });
    await link.status();
    assert.equal(released, false, 'the FIFO holds less than that');
    using reader = new Reader(out.path);
    assert.equal(await order, 0);
    await reader.end();
    assert.equal(reader.bytes, 100_000);
  });

  test(`a pipe that ends before its process ends the stream (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    using reader = new Reader(out.path);
    const pid = await start(link, 1n, piped(out), script('echo out; exec >&-; exec sleep 1000'));
    await reader.end();
    assert.equal(reader.text, 'out\n');
    assert.ok(alive(pid));
    process.kill(pid, 'SIGKILL');
  });

  test(`a terminal: its size, its input and the end of it, its last output (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const [stdin, stdout] = [fifo(harbour, 'in'), fifo(harbour, 'out')];
    const resize = async (token: bigint) =>
      (await link.order(ToKeel.RESIZE, u64(token), u32(21), u32(42))).result;
    const text = 'read a; stty size; read b; echo "$a $b"; trap "" HUP; sleep 0.2; exec seq 1 20000';
    const pid = await start(link, 1n, { kind: 'terminal', stdin, stdout }, script(text));
    // keel hears of the terminal in a second message.
    await eventually('its terminal is known', async () => (await resize(1n)) === 0 || undefined);
    using reader = new Reader(stdout.path);
    writeFileSync(stdin.path, 'one\n');
    await until('the size', () => reader.text.includes('21 42'));
    writeFileSync(stdin.path, 'two\n');
    assert.equal((await link.order(ToKeel.CLOSE_STDIN, u64(1n))).result, 0);
    await until('input in two parts', () => reader.text.includes('one two'));
    assert.ok(alive(pid), 'the end of its input does not hang it up');
    assert.equal((await link.exited(1n)).status, 0);
    await reader.end();
    assert.ok(reader.text.endsWith('19999\r\n20000\r\n'));
    assert.equal(await resize(1n), -ESRCH);
    await start(link, 2n, piped(nothing), script('exec sleep 1000'));
    assert.equal(await resize(2n), -ENOTTY);
    assert.equal((await link.order(ToKeel.SIGNAL, u64(2n), u32(9))).result, 0);
  });

  test(`a hundred terminals leave no descriptor (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const [stdin, stdout] = [fifo(harbour, 'in'), fifo(harbour, 'out')];
    const keel = harbour.keel?.pid ?? 0;
    const before = openIn(keel).length;
    for (let token = 1n; token <= 100n; token++) {
      using reader = new Reader(stdout.path);
      await start(link, token, { kind: 'terminal', stdin, stdout }, script('echo hello'));
      await link.exited(token);
      link.send(ToKeel.EXIT_ACK, token);
      await reader.end();
      assert.equal(reader.text, 'hello\r\n');
    }
    await until('keel has closed all', () => openIn(keel).length === before);
  });
}
