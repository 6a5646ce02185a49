/** How keel begins and ends: lock, idle end, stop, signals, wherryd's death; and what it leaves, which is nothing. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { FieldReader, str, u32, u64 } from '../../../src/daemon/frames.ts';
import { FromKeel, PROTOCOL_VERSION, ToKeel } from '../../../src/daemon/wire.ts';
import { alive, type Build, builds, Harbour, until } from './harness.ts';
import { initTape } from './tapes.ts';

for (const which of Object.keys(builds) as Build[]) {
  test(`wherryd gets five descriptors, a short environment and a HELLO (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which, {
      env: { NODE_OPTIONS: '--no-warnings', SECRET: 'x', LANG: 'C.UTF-8', WHERRY_LOG_LEVEL: 'debug' },
      flags: ['--service'],
    });
    await using _ = harbour;
    const hello = await link.inbox.take(FromKeel.HELLO);
    const fields = new FieldReader(hello.payload);
    assert.deepEqual([fields.u32(), fields.u32()], [PROTOCOL_VERSION, 1]);
    const build = fields.str();
    assert.notEqual(build, '');
    assert.equal(fields.str(), harbour.runDir);
    const { env, descriptors, status, cwd } = harbour.started();
    assert.deepEqual(Object.keys(env).sort(), [
      'LANG',
      'PATH',
      'WHERRY_KEEL_BUILD',
      'WHERRY_LOG_LEVEL',
      'WHERRY_RUN_DIR',
    ]);
    assert.equal(env['WHERRY_KEEL_BUILD'], build);
    assert.equal(env['WHERRY_RUN_DIR'], harbour.runDir);
    assert.equal(descriptors['0'], '/dev/null');
    const sockets = Object.entries(descriptors).filter(([, name]) => name.startsWith('socket:'));
    assert.deepEqual(
      sockets.map(([fd]) => fd).filter((fd) => Number(fd) > 2),
      ['3', '4'],
    );
    assert.match(status, /^SigBlk:\t0+$/m);
    assert.match(status, /^Umask:\t0022$/m);
    assert.equal(cwd, '/');
  });

  test(`the run folder is private, the sockets are ours alone (${which})`, async () => {
    const harbour = await Harbour.open(which);
    await using _ = harbour;
    mkdirSync(harbour.runDir);
    chmodSync(harbour.runDir, 0o755);
    harbour.startKeel();
    await harbour.wherryd();
    assert.equal(statSync(harbour.runDir).mode & 0o777, 0o700);
    for (const name of ['keel.sock', 'grpc.sock', 'keel.lock']) {
      assert.equal(statSync(`${harbour.runDir}/${name}`).mode & 0o777, 0o600, name);
    }
  });

  test(`idle: keel ends and leaves nothing; a container or a connection holds it (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    assert.equal((await link.listen(1n, `${harbour.folder}/s.sock`)).result, 0);
    link.spawn(1n, initTape(1n));
    const { pid } = await link.registered(1n);
    await link.played(1n);
    link.send(ToKeel.IDLE, 0n, u32(1));
    await new Promise((wake) => setTimeout(wake, 1300));
    assert.ok(alive(pid) && harbour.keel?.exitCode === null, 'a container holds it');
    const { socket } = await harbour.connect();
    await link.inbox.take(FromKeel.CONN_OPEN);
    await link.order(ToKeel.SIGNAL, u64(1n), u32(9));
    await link.exited(1n);
    link.send(ToKeel.EXIT_ACK, 1n);
    await new Promise((wake) => setTimeout(wake, 1300));
    assert.equal((await link.status()).connections, 1, 'a connection holds it');
    socket.destroy();
    assert.equal(await harbour.keelEnd(), 0);
    assert.deepEqual(readdirSync(harbour.runDir), []);
    assert.ok(!readdirSync(harbour.folder).includes('s.sock'));
    assert.ok(link.closed);
  });

  test(`the idle time begins with READY: before it callers wait, uncounted; IDLE 0 is never (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which, {
      env: { WHERRY_IDLE_SECONDS: '1' },
      ready: false,
    });
    await using _ = harbour;
    await new Promise((wake) => setTimeout(wake, 1300));
    assert.equal(harbour.keel?.exitCode, null, 'wherryd is not ready');
    link.send(ToKeel.IDLE, 0n, u32(0));
    link.send(ToKeel.READY, 0n, str('test'));
    await new Promise((wake) => setTimeout(wake, 1300));
    await link.status();
    process.kill(harbour.started().pid, 'SIGKILL');
    const next = await harbour.wherryd(false);
    next.send(ToKeel.IDLE, 0n, u32(1));
    next.send(ToKeel.READY, 0n, str('test'));
    assert.equal(await harbour.keelEnd(), 0);
  });

  test(`STOP refuses while containers run, unless forced (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(1n, initTape(1n, { ownPids: true }));
    link.spawn(2n, initTape(2n, { stay: true }));
    await link.registered(1n);
    await link.registered(2n);
    assert.equal((await link.order(ToKeel.STOP, u32(0))).result, -16);
    harbour.keel?.kill('SIGTERM');
    await until('the refusal', () => harbour.log.includes('containers are running'));
    const stopped = link.order(ToKeel.STOP, u32(1));
    for (const token of [1n, 2n]) {
      assert.equal((await link.exited(token)).status, 9);
      link.send(ToKeel.EXIT_ACK, token);
    }
    assert.equal((await stopped).result, 0);
    assert.equal(await harbour.keelEnd(), 0);
    assert.deepEqual(readdirSync(harbour.runDir), []);
  });

  test(`SIGTERM ends a keel without containers (${which})`, async () => {
    const { harbour } = await Harbour.start(which);
    await using _ = harbour;
    harbour.keel?.kill('SIGTERM');
    assert.equal(await harbour.keelEnd(), 0);
    assert.deepEqual(readdirSync(harbour.runDir), []);
  });

  test(`wherryd's death closes clients whose command had begun; containers live on and are told to the next (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    link.spawn(1n, initTape(1n));
    const init = await link.registered(1n);
    const { socket } = await harbour.connect();
    link.send(ToKeel.ACTING, (await link.inbox.take(FromKeel.CONN_OPEN)).id);
    await link.status();
    process.kill(harbour.started().pid, 'SIGKILL');
    await until('the connection closes', () => socket.closed);
    const waiting = await harbour.connect();
    const second = await harbour.wherryd(false);
    assert.deepEqual(second.inbox.types, [FromKeel.HELLO], 'nothing but HELLO before READY');
    second.send(ToKeel.READY, 0n, u32(0));
    assert.deepEqual(await second.registered(1n), init);
    await second.inbox.take(FromKeel.CONN_OPEN);
    assert.equal((await second.order(ToKeel.SIGNAL, u64(1n), u32(9))).result, 0);
    await second.exited(1n);
    waiting.socket.destroy();
  });

  test(`a wherryd that never comes up ends keel (${which})`, async () => {
    const harbour = await Harbour.open(which);
    await using _ = harbour;
    mkdirSync(`${harbour.folder}/libexec`);
    for (const name of ['keel', 'player']) {
      symlinkSync(`${harbour.bin}/${name}`, `${harbour.folder}/libexec/${name}`);
    }
    writeFileSync(`${harbour.folder}/libexec/wherryd`, '#!/bin/sh\nexit 4\n', { mode: 0o755 });
    const client = harbour.client(['list']);
    assert.equal(await client.end(), 1);
    assert.match(client.stderr, /wherryd\.log/);
    const log = readFileSync(`${harbour.runDir}/wherryd.log`, 'utf8');
    assert.match(log, /wherryd ended" status=4/);
    await until('keel ends', () =>
      readFileSync(`${harbour.runDir}/wherryd.log`, 'utf8').endsWith('msg="ended"\n'),
    );
    assert.deepEqual(readdirSync(harbour.runDir), ['wherryd.log']);
  });

  test(`six starters, stale sockets: one keel, and all are served (${which})`, async () => {
    const harbour = await Harbour.open(which);
    await using _ = harbour;
    harbour.installLibexec();
    mkdirSync(harbour.runDir, { mode: 0o700 });
    // Sockets that nobody listens on any more.
    for (const name of ['keel.sock', 'grpc.sock']) {
      const server = createServer();
      await new Promise<void>((done) => server.listen(`${harbour.folder}/x`, done));
      linkSync(`${harbour.folder}/x`, `${harbour.runDir}/${name}`);
      await new Promise((done) => server.close(done));
    }
    const clients = Array.from({ length: 6 }, () => harbour.client(['list']));
    const link = await harbour.wherryd();
    for (let n = 0; n < 6; n++) {
      // Not CONN_OPEN: keels that were not needed have looked whether somebody serves.
      const { id } = await link.inbox.take(FromKeel.CONN_DATA);
      const exit = Buffer.alloc(20);
      exit.writeUInt32LE(4, 0);
      exit.writeUInt16LE(81, 4);
      exit.writeUInt32LE(n, 16);
      link.send(ToKeel.CONN_DATA, id, exit);
    }
    const codes = await Promise.all(clients.map((client) => client.end()));
    assert.deepEqual(codes.sort(), [0, 1, 2, 3, 4, 5]);
    const starts = readFileSync(`${harbour.runDir}/wherryd.log`, 'utf8').match(/msg="listening"/g);
    assert.equal(starts?.length, 1);
    assert.equal((await link.order(ToKeel.STOP, u32(0))).result, 0);
    await until('wherryd is told to end', () => link.closed);
  });
}
