/** Players, registrations, exits and kept stream ends, with real tapes and real processes. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { test } from 'node:test';
import { str, u32, u64 } from '../../../src/daemon/frames.ts';
import { FromKeel, ToKeel } from '../../../src/daemon/wire.ts';
import { LaneState } from '../../../src/tape/format.ts';
import { alive, type Build, builds, Harbour, until } from './harness.ts';
import { initTape, plainTape } from './tapes.ts';

function fifo(harbour: Harbour, name: string): string {
  const path = `${harbour.folder}/${name}`;
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  return path;
}

for (const which of Object.keys(builds) as Build[]) {
  test(`a play's end carries status and page (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(
      1n,
      plainTape((tape) => {
        tape.store(tape.syscall('getppid', []), tape.slot(3), 8);
        tape.halt(7);
      }),
    );
    const good = await link.played(1n);
    assert.equal(good.status, 7 << 8);
    assert.equal(good.page.length, 1024);
    assert.equal(good.page.readBigUInt64LE(128 + 3 * 8), BigInt((await link.status()).pid));
    assert.equal(good.page.readUInt32LE(12), LaneState.HALTED);

    link.spawn(2n, Buffer.from('no tape at all'));
    assert.equal((await link.played(2n)).status, 2 << 8);
    link.spawn(3n, Buffer.alloc(0));
    assert.notEqual((await link.played(3n)).status, 0);
    assert.equal((await link.status()).players, 0);
  });

  test(`the player has clean state: descriptors, signals, limits (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(
      1n,
      plainTape((tape) => tape.syscall('ppoll', [0, 0, 0, 0, 0])),
    );
    await until('the player', () => harbour.keel?.pid !== undefined);
    const keel = (await link.status()).pid;
    const children = readFileSync(`/proc/${keel}/task/${keel}/children`, 'utf8')
      .trim()
      .split(' ')
      .map(Number);
    const player = children.find((pid) => pid !== harbour.started().pid)!;
    // What it does before it plays takes a moment.
    await until('it plays', () => /^SigBlk:\t0+$/m.test(readFileSync(`/proc/${player}/status`, 'utf8')));
    for (const fd of [0, 1, 2]) assert.equal(readlinkSync(`/proc/${player}/fd/${fd}`), '/dev/null');
    const status = readFileSync(`/proc/${player}/status`, 'utf8');
    assert.match(status, /^SigBlk:\t0+$/m);
    assert.match(status, /^SigIgn:\t0+$/m);
    assert.match(status, /^Umask:\t0022$/m);
    const limit = (pid: number) => /Max open files.*/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[0];
    assert.equal(limit(player), limit(process.pid), 'the limit that keel was started with');
    process.kill(player, 'SIGKILL');
    assert.equal((await link.played(1n)).status, 9);
  });

  test(`an init is registered, signalled and its exit kept until acknowledged (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(5n, initTape(5n, { args: ['/bin/sleep', '1000'] }));
    const init = await link.registered(5n);
    assert.equal((await link.played(5n)).status, 0);
    assert.match(
      readFileSync(`/proc/${init.pid}/status`, 'utf8'),
      new RegExp(`^PPid:\\t${harbour.keel?.pid}$`, 'm'),
    );
    const stat = readFileSync(`/proc/${init.pid}/stat`, 'utf8');
    assert.equal(init.startTime, BigInt(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!));
    assert.notEqual(init.inode, 0n);
    assert.equal((await link.order(ToKeel.SIGNAL, u64(5n), u32(0))).result, 0);
    assert.equal((await link.order(ToKeel.SIGNAL, u64(6n), u32(9))).result, -3);
    assert.equal((await link.order(ToKeel.SIGNAL, u64(5n), u32(9))).result, 0);
    const exit = await link.exited(5n);
    assert.deepEqual([exit.status, exit.known], [9, true]);
    assert.ok(Math.abs(Number(exit.time / 1_000_000n) - Date.now()) < 60_000);
    assert.equal((await link.order(ToKeel.SIGNAL, u64(5n), u32(9))).result, -3);

    // A wherryd that comes after a crash hears of it again, until it has acknowledged it.
    link.socket.destroy();
    const second = await harbour.wherryd();
    assert.equal((await second.exited(5n)).status, 9);
    second.send(ToKeel.EXIT_ACK, 5n);
    await second.status();
    second.socket.destroy();
    const third = await harbour.wherryd();
    await third.status();
    assert.ok(!third.inbox.types.includes(FromKeel.EXIT));
  });

  test(`a thousandth of a second is enough: REGISTERED, then EXIT, whatever ends first (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    for (let n = 0; n < 40; n++)
      link.spawn(BigInt(100 + n), initTape(BigInt(100 + n), { exit: n, ownPids: n % 2 === 0 }));
    for (let n = 0; n < 40; n++) {
      const token = BigInt(100 + n);
      const exit = await link.exited(token);
      assert.ok(link.inbox.takeNow(FromKeel.REGISTERED, token), 'registered before its exit');
      assert.deepEqual([exit.status, exit.known], [n << 8, true]);
      assert.equal((await link.played(token)).status, 0);
      link.send(ToKeel.EXIT_ACK, token);
    }
    const { registered, players } = await link.status();
    assert.deepEqual([registered, players], [0, 0]);
  });

  test(`a deadline ends the player and the init that it left (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(9n, initTape(9n, { stay: true }), 1500);
    const init = await link.registered(9n);
    assert.equal((await link.played(9n)).status, 9);
    assert.equal((await link.exited(9n)).status, 9);
    assert.ok(!alive(init.pid));
  });

  test(`orphans are reaped and nobody is told (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    // The shell's grandchild becomes keel's when the shell ends.
    link.spawn(4n, initTape(4n, { args: ['/bin/sh', '-c', '(sleep 0.2; exit 5) & exit 3'] }));
    assert.equal((await link.exited(4n)).status, 3 << 8);
    const keel = harbour.keel?.pid;
    await until('only wherryd is left', () => {
      const children = readFileSync(`/proc/${keel}/task/${keel}/children`, 'utf8').trim().split(' ');
      return children.length === 1;
    });
    assert.ok(!link.inbox.types.includes(FromKeel.EXIT));
  });

  test(`GO opens the gate, once somebody waits there (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const gate = fifo(harbour, 'exec.fifo');
    assert.equal((await link.order(ToKeel.GO, str(`${gate}.not`))).result, -2);
    assert.equal((await link.order(ToKeel.GO, str(gate))).result, -6);
    assert.equal((await link.order(ToKeel.GO, str(`${harbour.folder}/relay.sock.json`))).result, -22);
    link.spawn(1n, initTape(1n, { args: ['/bin/sh', '-c', `read x < ${gate}; exit 9`] }));
    await link.registered(1n);
    let result = -6;
    while (result === -6) result = (await link.order(ToKeel.GO, str(gate))).result;
    assert.equal(result, 0);
    assert.equal((await link.exited(1n)).status, 9 << 8);
  });

  test(`output stays until it is read, then it ends (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    link.spawn(1n, initTape(1n, { args: ['/bin/echo', 'last words'], stdout: out, ownPids: true }));
    assert.equal((await link.exited(1n)).status, 0);
    link.send(ToKeel.EXIT_ACK, 1n);
    await link.status();
    const reader = spawn('cat', [out], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    reader.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString();
    });
    await once(reader, 'close');
    assert.equal(text, 'last words\n');
    await until(
      'forgotten',
      () => readFileSync(`/proc/${harbour.keel?.pid}/status`, 'utf8') !== '' && noFifo(harbour),
    );
  });

  test(`RELEASE drops unread output, CLOSE_STDIN ends the input (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const out = fifo(harbour, 'out');
    const input = fifo(harbour, 'in');
    link.spawn(1n, initTape(1n, { args: ['/bin/cat'], stdin: input, stdout: out, ownPids: true }));
    const init = await link.registered(1n);
    const writer = openSync(input, constants.O_WRONLY);
    spawnSync('sh', ['-c', `echo hello > ${input}`]);
    closeSync(writer);
    assert.ok(alive(init.pid), 'the keepalive holds its input open');
    assert.equal((await link.order(ToKeel.CLOSE_STDIN, u64(1n))).result, 0);
    assert.equal((await link.exited(1n)).status, 0);
    assert.equal((await link.order(ToKeel.CLOSE_STDIN, u64(2n))).result, -3);
    assert.equal((await link.order(ToKeel.RELEASE, u64(1n))).result, 0);
    const reader = openSync(out, constants.O_RDONLY | constants.O_NONBLOCK);
    assert.equal(readSync(reader, Buffer.alloc(10)), 0, 'nothing is kept');
    closeSync(reader);
    assert.ok(noFifo(harbour));
  });

  test(`a bad registration and a token in use are refused (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(1n, initTape(1n));
    await link.registered(1n);
    link.spawn(2n, initTape(1n, { exit: 0 }));
    assert.equal((await link.played(2n)).status, 0);
    link.spawn(
      3n,
      plainTape((tape) => {
        tape.syscall('write', [4, 'too short', 9]);
        tape.halt(0);
      }),
    );
    assert.equal((await link.played(3n)).status, 0);
    assert.equal((await link.status()).registered, 1);
    // A play may have ended before what it has sent is read.
    for (const problem of [/the token is in use/, /registration refused: not as docs/])
      await until(`${problem}`, () => problem.test(harbour.log));
    assert.equal((await link.status()).registered, 1);
    await link.order(ToKeel.SIGNAL, u64(1n), u32(9));
    await link.exited(1n);
  });
}

function noFifo(harbour: Harbour): boolean {
  const pid = harbour.keel?.pid;
  const names = spawnSync('ls', ['-l', `/proc/${pid}/fd`], { encoding: 'utf8' }).stdout;
  return (
    existsSync(`/proc/${pid}`) &&
    !names.includes(`${harbour.folder}/out`) &&
    !names.includes(`${harbour.folder}/in`)
  );
}
