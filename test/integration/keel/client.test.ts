/** The client: what it sends, that it does what it is told, and what it gives back to its caller. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import type { ClientSession } from '../../../src/cli/session.ts';
import { ClientLink } from '../../../src/daemon/client-link.ts';
import { encodeFrame } from '../../../src/daemon/frames.ts';
import { FromKeel, ToClient, ToKeel, WaitFlags } from '../../../src/daemon/wire.ts';
import { kernelHas } from '../../support/kernel.ts';
import { alive, type Build, builds, Client, Harbour, type Link, until } from './harness.ts';
import { initTape, plainTape } from './tapes.ts';

/** Every client that comes gets a session, and `run` is told of it as wherryd is. */
function serve(link: Link, run: (session: ClientSession) => Promise<void>, soon = false): void {
  const sessions = new Map<bigint, ClientLink>();
  link.onFrame = (frame) => {
    if (frame.type === FromKeel.CONN_OPEN) {
      const peer = { pid: frame.payload.readUInt32LE(1), uid: 0, gid: 0 };
      const session = new ClientLink(
        peer,
        (bytes) => link.send(ToKeel.CONN_DATA, frame.id, bytes),
        (ready) => void run(ready).catch((error: Error) => ready.out(2, `${error.message}\n`)),
      );
      sessions.set(frame.id, session);
      link.send(ToKeel.ACTING, frame.id);
      if (soon) link.send(ToKeel.CONN_DATA, frame.id, encodeFrame(ToClient.SOON, 0n));
      return true;
    }
    if (frame.type === FromKeel.CONN_DATA) sessions.get(frame.id)?.receive(frame.payload);
    if (frame.type === FromKeel.CONN_CLOSE) sessions.get(frame.id)?.closed();
    return frame.type === FromKeel.CONN_DATA || frame.type === FromKeel.CONN_CLOSE;
  };
}

/** `run` of a container: the client plays the tape and waits for its child. */
async function runInit(
  session: ClientSession,
  tape: Uint8Array,
  flags = 0,
  console = false,
): Promise<number> {
  const played = await session.play(1n, tape, { console });
  assert.equal(played.waitStatus, 0);
  const pid = Buffer.from(played.page).readUInt32LE(128);
  return session.wait(pid, flags);
}

const exitOf = (status: number): number => ((status & 0x7f) === 0 ? status >> 8 : 128 + (status & 0x7f));

for (const which of Object.keys(builds) as Build[]) {
  test(`the request says who calls, and how (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    let seen: ClientSession | undefined;
    serve(link, async (session) => {
      seen = session;
      session.exit(0);
    });
    const shell = 'umask 027; ulimit -n 512; cd /usr; exec nice -n 3 "$0" list --all ""';
    const child = spawn('sh', ['-c', shell, `${harbour.bin}/wherry`], {
      env: { ...harbour.env, ODD: 'a=b\nc' },
    });
    await once(child, 'close');
    const request = seen!.request;
    assert.deepEqual(request.argv, [`${harbour.bin}/wherry`, 'list', '--all', '']);
    assert.equal(request.cwd, '/usr');
    assert.equal(request.umask, 0o027);
    assert.equal(request.nice, getPriority() + 3);
    assert.equal(request.env['ODD'], 'a=b\nc');
    assert.equal(request.rlimits.length, 16);
    assert.equal(request.rlimits[7]?.[0], 512n);
    assert.deepEqual(request.isTerminal, [false, false, false]);
    assert.equal(request.pid, child.pid);
    assert.equal(request.namespaces.mnt, BigInt(statSync('/proc/self/ns/mnt').ino));
    assert.equal(request.namespaces.cgroup, BigInt(statSync('/proc/self/ns/cgroup').ino));
    assert.equal(request.oomScoreAdj, Number(readFileSync('/proc/self/oom_score_adj', 'utf8')));
  });

  test(`it prints, reads its input and ends as it is told (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      const input = await session.readStdin();
      session.out(1, input);
      session.out(2, 'an error\n');
      session.exit(42);
    });
    const client = harbour.client(['x'], { name: 'containerd-shim-wherry-v1' });
    const text = 'line\n'.repeat(100_000);
    client.child.stdin?.end(text);
    assert.equal(await client.end(), 42);
    assert.ok(client.stdout === text);
    assert.equal(client.stderr, 'an error\n');
  });

  test(`a reader that goes away is no error; closed descriptors are not ours to take (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      session.out(1, 'x'.repeat(1_000_000));
      session.out(2, 'done');
      session.exit(7);
    });
    const script = '{ "$0" x; echo " $?" >&2; } | head -c 3; "$0" x <&- >&- 2>&-; echo " $?"';
    const shell = new Client(spawn('sh', ['-c', script, `${harbour.bin}/wherry`], { env: harbour.env }));
    assert.equal(await shell.end(), 0);
    assert.equal(shell.stderr, 'done 7\n');
    assert.equal(shell.stdout, 'xxx 7\n');
  });

  test(`in-process plays, and plays by the player (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const results: { waitStatus: number; value: bigint }[] = [];
    serve(link, async (session) => {
      const tape = plainTape((tape) => {
        tape.store(tape.syscall('getpid', []), tape.slot(1), 8);
        tape.halt(5);
      });
      for (const inProcess of [true, false]) {
        const { waitStatus, page } = await session.play(1n, tape, { inProcess });
        results.push({ waitStatus, value: Buffer.from(page).readBigUInt64LE(136) });
      }
      const bad = await session.play(1n, Buffer.from('not a tape, not at all'), { inProcess: true });
      results.push({ waitStatus: bad.waitStatus, value: 0n });
      session.exit(0);
    });
    const client = harbour.client(['x']);
    assert.equal(await client.end(), 0);
    assert.deepEqual(
      results.map((one) => one.waitStatus),
      [5 << 8, 5 << 8, 2 << 8],
    );
    assert.equal(results[0]?.value, BigInt(client.child.pid ?? 0));
    assert.notEqual(results[1]?.value, BigInt(client.child.pid ?? 0));
  });

  test(`the init is the client's child, with its streams; keel hears of its end, too (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      const script = 'read x; echo "got $x"; echo oops >&2; exit 3';
      session.exit(exitOf(await runInit(session, initTape(8n, { args: ['/bin/sh', '-c', script] }))));
    });
    const client = harbour.client(['run']);
    const init = await link.registered(8n);
    assert.match(
      readFileSync(`/proc/${init.pid}/status`, 'utf8'),
      new RegExp(`^PPid:\\t${client.child.pid}$`, 'm'),
    );
    client.child.stdin?.end('word\n');
    assert.equal(await client.end(), 3);
    assert.equal(client.stdout, 'got word\n');
    assert.equal(client.stderr, 'oops\n');
    const exit = await link.exited(8n);
    // Before Linux 6.15 keel is told nothing of a process that is not its child, but may have seen the zombie's status in /proc.
    const told = exit.known || kernelHas('6.15');
    assert.deepEqual([exit.status, exit.known], told ? [3 << 8, true] : [0, false]);
  });

  test(`signals are forwarded; WAIT's flag 2 ends an init that catches none (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const script = 'trap "echo usr; exit 6" USR1; echo ready; while :; do sleep 0.05; done';
    serve(link, async (session) => {
      const flag = session.request.argv[1] === 'kill' ? WaitFlags.KILL_IF_UNHANDLED : 0;
      const args = flag === 0 ? ['/bin/sh', '-c', script] : ['/bin/sleep', '1000'];
      const env = ['PATH=/usr/bin:/bin'];
      session.exit(exitOf(await runInit(session, initTape(1n, { args, env, ownPids: true }), flag)));
    });
    const caught = harbour.client(['run']);
    await until('the trap', () => caught.stdout.includes('ready'));
    caught.child.kill('SIGUSR1');
    assert.equal(await caught.end(), 6);
    assert.equal(caught.stdout, 'ready\nusr\n');
    await link.exited(1n);
    link.send(ToKeel.EXIT_ACK, 1n);
    await link.registered(1n);

    const killed = harbour.client(['kill']);
    const init = await link.registered(1n);
    await until('sleep', () => readFileSync(`/proc/${init.pid}/cmdline`, 'utf8').startsWith('/bin/sleep'));
    killed.child.kill('SIGTERM');
    assert.equal(await killed.end(), 137);
  });

  test(`a terminal: both ways, raw, sized, and all of the last output (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      assert.deepEqual(session.request.isTerminal, [true, true, true]);
      assert.deepEqual([session.request.rows, session.request.cols], [33, 77]);
      // This tape gives the pty no size; the client does, as soon as it has the master.
      const script =
        'while [ "$(stty size)" = "0 0" ]; do sleep 0.01; done; stty size; read x; echo "got $x"; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 4';
      const tape = initTape(1n, {
        args: ['/bin/sh', '-c', script],
        env: ['PATH=/usr/bin:/bin'],
        terminal: true,
        ownPids: true,
      });
      const status = await runInit(session, tape, WaitFlags.RELAY_TERMINAL, true);
      session.exit(exitOf(status));
    });
    const python = spawn('python3', ['-c', terminalScript, `${harbour.bin}/wherry`, 'run'], {
      env: harbour.env,
    });
    const client = new Client(python);
    assert.equal(await client.end(), 0, client.stderr);
    assert.match(client.stdout, /33 77\r\n/);
    assert.match(client.stdout, /got word\r\n/);
    assert.match(client.stdout, /line 1999\r\n/);
    assert.match(client.stdout, /exit 4 restored True raw True\n$/);
  });

  test(`a terminal without one: input's end is ^D, once it is there (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      const tape = initTape(1n, { args: ['/bin/cat'], terminal: true, ownPids: true });
      session.exit(exitOf(await runInit(session, tape, WaitFlags.RELAY_TERMINAL, true)));
    });
    const client = harbour.client(['run']);
    client.child.stdin?.end('one\ntwo');
    assert.equal(await client.end(), 0);
    assert.deepEqual(
      client.stdout.match(/one|two/g)?.sort(),
      ['one', 'one', 'two', 'two'],
      'echoed, and copied',
    );
  });

  test(`a player that waits for its tape plays it, is not taken for another kind of play, and goes with the client (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const early = new Map<string, number>();
    const played = new Map<string, number>();
    const tape = plainTape((tape) => {
      tape.store(tape.syscall('getpid', []), tape.slot(1), 8);
      tape.halt(5);
    });
    serve(
      link,
      async (session) => {
        const what = session.request.argv[1]!;
        const { pid } = session.request;
        const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
        await until('its player waits', () => /^\d+$/.test(children()));
        early.set(what, Number(children()));
        if (what === 'killed') process.kill(Number(children()), 'SIGKILL');
        if (what !== 'refused') {
          const { waitStatus, page } = await session.play(1n, tape, {
            preserve: what === 'preserve' ? 1 : 0,
          });
          assert.equal(waitStatus, what === 'killed' ? 9 : 5 << 8);
          played.set(what, Number(Buffer.from(page).readBigUInt64LE(136)));
        }
        session.exit(3);
      },
      true,
    );
    for (const what of ['plain', 'preserve', 'refused', 'killed']) {
      const client = harbour.client([what]);
      assert.equal(await client.end(), 3, client.stderr);
      assert.ok(!existsSync(`/proc/${early.get(what)}`), 'it is reaped');
    }
    assert.equal(played.get('plain'), early.get('plain'));
    assert.notEqual(played.get('preserve'), early.get('preserve'));
  });

  test(`a play that ends before the order to wait for its init has come loses nothing (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    serve(link, async (session) => {
      const script = 'sleep 0.2; exit 17';
      const tape = initTape(1n, { args: ['/bin/sh', '-c', script], env: ['PATH=/usr/bin:/bin'] });
      assert.equal((await session.play(1n, tape, {})).waitStatus, 0);
      session.exit(exitOf(await session.wait(0, 0)));
    });
    assert.equal(await harbour.client(['run']).end(), 17);
  });

  test(`after the init and the tape behind it the client ends by itself; not before it is asked where that tape fails (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const told: string[] = [];
    serve(link, async (session) => {
      const fails = session.request.argv[1] === 'failing';
      const onGone = () => told.push('gone');
      const cleanup = plainTape((tape) => void tape.halt(fails ? 3 : 0));
      const tape = initTape(fails ? 2n : 1n, {
        args: ['/bin/sh', '-c', 'exit 13'],
        env: ['PATH=/usr/bin:/bin'],
      });
      const played = await session.play(1n, tape, { next: { waitFlags: 0, cleanup, onGone } });
      assert.equal(played.waitStatus, 0);
      told.push(`init ${await session.wait(0, 0)}`, `tape ${(await played.cleanup)?.waitStatus}`);
      if (!fails) return;
      await link.status();
      told.push('exit');
      session.exit(21);
    });
    assert.equal(await harbour.client(['run']).end(), 13);
    await until('both ends are told', () => told.length === 3);
    assert.deepEqual(told, ['gone', `init ${13 << 8}`, 'tape 0']);
    told.length = 0;
    assert.equal(await harbour.client(['failing']).end(), 21);
    assert.deepEqual(told, [`init ${13 << 8}`, `tape ${3 << 8}`, 'exit']);
  });

  test(`wherryd's death: a client without a child says so, one with a child waits for it (${which})`, async () => {
    const { harbour, link } = await Harbour.start(which);
    await using _ = harbour;
    const gone = Promise.withResolvers<void>();
    serve(link, async (session) => {
      if (session.request.argv[1] === 'list') return;
      const script = `while [ ! -e ${harbour.folder}/go ]; do sleep 0.05; done; exit 11`;
      const wait = runInit(
        session,
        initTape(1n, { args: ['/bin/sh', '-c', script], env: ['PATH=/usr/bin:/bin'] }),
      );
      gone.resolve();
      await wait;
    });
    const list = harbour.client(['list']);
    const run = harbour.client(['run']);
    await link.registered(1n);
    await gone.promise;
    await until('the client waits', () => readdirSync(`/proc/${run.child.pid}/fd`).length > 6);
    await link.status();
    process.kill(harbour.started().pid, 'SIGKILL');
    assert.equal(await list.end(), 1);
    assert.match(list.stderr, /wherryd went away/);
    await until('the message', () => run.stderr.includes('wherryd went away; waiting'));
    spawnSync('touch', [`${harbour.folder}/go`]);
    assert.equal(await run.end(), 11);
  });

  test(`daemon status and stop start nothing; a process that is not plain starts no keel (${which})`, async () => {
    const harbour = await Harbour.open(which);
    await using _ = harbour;
    harbour.installLibexec();
    const status = harbour.client(['daemon', 'status']);
    assert.equal(await status.end(), 3);
    assert.equal(status.stdout, 'wherryd is not running\n');
    assert.equal(await harbour.client(['daemon', 'stop']).end(), 0);
    const narrowed = spawnSync('setpriv', ['--no-new-privs', `${harbour.bin}/wherry`, 'daemon', 'start'], {
      env: harbour.env,
      encoding: 'utf8',
    });
    assert.equal(narrowed.status, 1);
    assert.match(narrowed.stderr, /cannot be started from this process: no_new_privs is set/);
    const bounded = spawnSync(
      'setpriv',
      ['--bounding-set', '-sys_module', `${harbour.bin}/wherry`, 'daemon', 'start'],
      {
        env: harbour.env,
        encoding: 'utf8',
      },
    );
    assert.match(bounded.stderr, /the capability bounding set is reduced/);
    const missing = harbour.client(['list'], { env: { WHERRY_LIBEXEC: '/nowhere' } });
    assert.equal(await missing.end(), 1);
    assert.match(missing.stderr, /WHERRY_LIBEXEC: No such file/);
    assert.throws(() => statSync(harbour.runDir));
  });

  test(`keel does not keep what its starter was (${which})`, async () => {
    const harbour = await Harbour.open(which);
    await using _ = harbour;
    harbour.installLibexec();
    const shell = 'umask 077; cd /usr; trap "" INT USR1; exec nice -n 7 taskset -c 0 "$0" list 9<"$0"';
    const child = spawn('sh', ['-c', shell, `${harbour.bin}/wherry`], { env: harbour.env, stdio: 'pipe' });
    const link = await harbour.wherryd();
    const { pid } = await link.status();
    const state = readFileSync(`/proc/${pid}/status`, 'utf8');
    assert.match(state, /^Umask:\t0022$/m);
    assert.match(state, /^SigIgn:\t0000000000001000$/m, 'SIGPIPE only');
    assert.equal(
      /^Cpus_allowed:.*$/m.exec(state)?.[0],
      /^Cpus_allowed:.*$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[0],
    );
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    assert.equal(fields[16], '0', 'nice');
    assert.equal(fields[3], String(pid), 'its own session');
    assert.equal(fields[1] === String(child.pid), false);
    assert.equal(readdirSync(`/proc/${pid}/cwd`).includes('proc'), true, 'its folder is /');
    const names = spawnSync('ls', ['-l', `/proc/${pid}/fd`], { encoding: 'utf8' }).stdout;
    assert.ok(!names.includes(`${harbour.bin}/wherry`), 'no descriptor of its starter');
    child.kill('SIGKILL');
    await once(child, 'close');
    assert.equal((await link.order(ToKeel.STOP, Buffer.alloc(4))).result, 0);
    await until('the end', () => !alive(pid));
  });
}

/** Runs argv in a terminal of 33 by 77, types a word, and says how the client left the terminal. */
const terminalScript = `
import fcntl, os, pty, select, struct, sys, termios
master, slave = pty.openpty()
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 77, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.close(master)
    os.execv(sys.argv[1], sys.argv[1:])
raw, seen, typed, status = False, b'', False, None
while True:
    ready, _, _ = select.select([master], [], [], 0.05)
    if ready: seen += os.read(master, 65536)
    if b'33 77' in seen and not typed:
        raw = not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
        os.write(master, b'word\\r')
        typed = True
    if status is not None and not ready: break
    if status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done: status = code
sys.stdout.write(seen.decode())
sys.stdout.write('exit %d restored %s raw %s\\n' % (os.waitstatus_to_exitcode(status), termios.tcgetattr(slave) == before, raw))
`;
