import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as c from '../../../src/linux/constants.ts';
import { errnoNumbers } from '../../../src/linux/errno.ts';
import * as s from '../../../src/linux/structs.ts';
import { fieldOf, sizeOf } from '../../../src/linux/structs-layout.ts';
import { Field, INSTRUCTION_BYTES, Op, PAGE_BYTES } from '../../../src/tape/format.ts';
import type { DataRef, Reg } from '../../../src/tape/refs.ts';
import { Tape } from '../../../src/tape/tape.ts';
import { Build, play } from './player.ts';

const build = new Build();
const folder = mkdtempSync(join(tmpdir(), 'wherry-play-'));
after(() => {
  build.remove();
  rmSync(folder, { recursive: true });
});

/** Writes a register as text to standard output. */
function print(tape: Tape, register: Reg): void {
  const text = tape.space(20);
  tape.syscall('write', [1, text, tape.decimal(register, text)]);
}

/** Clones; what `child` appends runs in the child, in lane 1, and the rest in the parent. Returns the child's pid. */
function clone(tape: Tape, child: () => void, flags: number | bigint = 0, pidfd?: DataRef): Reg {
  const parent = tape.label('parent');
  const inChild = tape.label('child');
  const args = tape.struct(s.cloneArgs({ flags, exitSignal: c.SIGCHLD, pidfd }));
  const pid = tape.syscall('clone3', [args, sizeOf('clone_args')]);
  tape.jumpIfEqual(pid, 0, inChild);
  tape.jump(parent);
  tape.place(inChild);
  tape.lane(1);
  child();
  tape.place(parent);
  return pid;
}

for (const kind of ['shipped', 'sanitized'] as const)
  describe(`the ${kind} player`, () => {
    let player = build.player;
    before(() => {
      if (kind === 'sanitized') player = build.sanitizedPlayer();
    });

    test('makes system calls with registers, numbers, texts and structs', async () => {
      const path = join(folder, `file-${kind}`);
      const tape = new Tape();
      const how = tape.struct(s.openHow(c.O_WRONLY | c.O_CREAT | c.O_CLOEXEC, 0, 0o640));
      const fd = tape.syscall('openat2', [c.AT_FDCWD, path, how, sizeOf('open_how')]);
      tape.syscall('write', [fd, 'salut', 5]);
      tape.syscall('close', [fd]);
      tape.halt(0);
      const { waitStatus, error, stderr } = await play(player, tape.assemble());
      assert.equal(stderr, '');
      assert.equal(error, undefined);
      assert.equal(waitStatus, 0);
      assert.equal(readFileSync(path, 'utf8'), 'salut');
    });

    test('a failure without a handler ends the play with its step, field, call and errno', async () => {
      const tape = new Tape();
      tape.step('process.cwd', 'change to the working directory');
      tape.syscall('chdir', [join(folder, 'absent')]);
      tape.halt(0);
      const { waitStatus, error, page } = await play(player, tape.assemble());
      assert.equal(waitStatus, 1 << 8);
      assert.equal(error?.message, 'change to the working directory: no such file or directory');
      assert.deepEqual(error?.details, {
        path: 'process.cwd',
        errno: 2,
        syscall: 'chdir',
        step: 'change to the working directory',
      });
      assert.equal(page.lanes[0]?.value, -2n);
    });

    test('the first handler that matches is taken', async () => {
      const tape = new Tape();
      const wrong = tape.label('wrong');
      const right = tape.label('right');
      const absent = join(folder, 'absent');
      const result = tape.syscall('chdir', [absent], { on: { EACCES: wrong, ENOENT: right, any: wrong } });
      tape.place(wrong);
      tape.halt(9);
      tape.place(right);
      tape.store(result, tape.slot(1), 8);
      tape.halt(7);
      const played = await play(player, tape.assemble());
      assert.equal(played.waitStatus, 7 << 8);
      assert.equal(BigInt.asIntN(64, played.page.slots[1]!), -BigInt(errnoNumbers.ENOENT));
    });

    test('any takes what no other handler wants', async () => {
      const tape = new Tape();
      const other = tape.label('other');
      const any = tape.label('any');
      tape.syscall('chdir', [join(folder, 'absent')], { on: { any, EACCES: other } });
      tape.place(other);
      tape.halt(9);
      tape.place(any);
      tape.halt(0);
      assert.equal((await play(player, tape.assemble())).waitStatus, 0);
    });

    test('handlers are passed over after a success', async () => {
      const tape = new Tape();
      const wrong = tape.label('wrong');
      tape.syscall('getpid', [], { on: { any: wrong } });
      tape.halt(0);
      tape.place(wrong);
      tape.halt(9);
      assert.equal((await play(player, tape.assemble())).waitStatus, 0);
    });

    test('loads what the kernel wrote, stores into arguments, and prints decimals', async () => {
      const tape = new Tape();
      const ends = tape.space(8);
      tape.syscall('pipe2', [ends, c.O_CLOEXEC]);
      const [reader, writer] = [tape.load(ends, 4), tape.load(ends.at(4), 4)];
      tape.syscall('write', [writer, 'abc', 3]);
      const text = tape.space(8);
      const count = tape.syscall('read', [reader, text, 8]);
      const iov = tape.struct(s.iovecs([{ at: text, length: 0 }]));
      tape.store(count, iov.at(...fieldOf('iovec', 'iov_len')), 8);
      tape.syscall('writev', [1, iov, 1]);
      for (const value of [0, 9, 10, 2n ** 64n - 1n]) {
        tape.syscall('write', [1, ' ', 1]);
        print(tape, tape.set(value));
      }
      const { stdout, error } = await play(player, tape.assemble());
      assert.equal(error, undefined);
      assert.equal(stdout, `abc 0 9 10 ${2n ** 64n - 1n}`);
    });

    test('a load of 4 bytes is zero-extended, a store of 4 bytes leaves the next alone', async () => {
      const tape = new Tape();
      const words = tape.bytes(Buffer.from('ffffffffeeeeeeee', 'hex'));
      tape.store(tape.load(words, 4), tape.slot(1), 8);
      tape.store(tape.set(0x1_0000_0001), words, 4);
      tape.store(tape.load(words, 8), tape.slot(2), 8);
      const { page } = await play(player, tape.assemble());
      assert.equal(page.slots[1], 0xffffffffn);
      assert.equal(page.slots[2], 0xeeeeeeee00000001n);
    });

    test('jumps on masks, of numbers and of registers', async () => {
      const tape = new Tape();
      const bad = tape.label('bad');
      const good = tape.label('good');
      const value = tape.set(0x1234);
      tape.jumpIf(value, 0xff, 0x12, bad);
      tape.jumpIf(tape.reg(), 1, 1, bad);
      tape.jumpIf(value, tape.set(0xff00), tape.set(0x1200), good);
      tape.place(bad);
      tape.halt(9);
      tape.place(good);
      tape.halt(0);
      assert.equal((await play(player, tape.assemble())).waitStatus, 0);
    });

    test('a clone reports in its own lane and its end is seen on the ready pipe', async () => {
      const tape = new Tape();
      tape.step('', 'make the ready pipe');
      const ends = tape.space(8);
      tape.syscall('pipe2', [ends, c.O_CLOEXEC]);
      const [reader, writer] = [tape.load(ends, 4), tape.load(ends.at(4), 4)];
      tape.step('', 'start the first process');
      const pid = clone(tape, () => {
        tape.syscall('close', [reader]);
        tape.step('hostname', 'set the host name');
        tape.syscall('sethostname', ['x', -1]);
      });
      tape.step('', 'wait for the first process');
      tape.store(pid, tape.slot(0), 8);
      tape.syscall('close', [writer]);
      const go = tape.label('go');
      const count = tape.syscall('read', [reader, tape.space(1), 1]);
      tape.jumpIfEqual(count, 1, go);
      tape.fail('EPIPE');
      tape.place(go);
      tape.halt(0);
      const { waitStatus, error, page } = await play(player, tape.assemble());
      assert.equal(waitStatus, 1 << 8);
      assert.equal(error?.details.path, 'hostname');
      assert.equal(error?.details.syscall, 'sethostname');
      assert.deepEqual(
        page.lanes.map(({ state, order }) => [state, order]),
        [
          ['failed', 2],
          ['failed', 1],
          ['unused', 0],
          ['unused', 0],
        ],
      );
      assert.ok(page.slots[0]! > 1n);
    });

    test('a clone has its own copy of registers and data, and shares the page', async () => {
      const tape = new Tape();
      const mine = tape.bytes(Buffer.from('0100000000000000', 'hex'));
      const register = tape.set(5);
      const pid = clone(tape, () => {
        tape.store(tape.set(2), mine, 8);
        tape.set(6, register);
        tape.store(register, tape.slot(3), 8);
        tape.halt(0);
      });
      tape.syscall('wait4', [pid, 0, 0, 0]);
      tape.store(tape.load(mine, 8), tape.slot(1), 8);
      tape.store(register, tape.slot(2), 8);
      const { page, error } = await play(player, tape.assemble());
      assert.equal(error, undefined);
      assert.deepEqual(page.slots.slice(1, 4), [1n, 5n, 6n]);
      assert.equal(page.lanes[1]?.state, 'halted');
    });

    test('pidfd, wait status and rights of clones reach registers', async () => {
      const tape = new Tape();
      const pidfd = tape.space(4);
      clone(tape, () => tape.halt(42), c.CLONE_PIDFD, pidfd);
      const info = tape.space(128);
      tape.syscall('waitid', [c.P_PIDFD, tape.load(pidfd, 4), info, c.WEXITED, 0]);
      // si_status of siginfo_t
      tape.store(tape.load(info.at(24), 4), tape.slot(1), 8);
      const { page, error } = await play(player, tape.assemble());
      assert.equal(error, undefined);
      assert.equal(page.slots[1], 42n);
    });

    test('calls are repeated when a signal interrupts them', async () => {
      // A child stops and continues the player while it waits: SIGCHLD's default action does not interrupt, but
      // SIGSTOP and SIGCONT end some calls with EINTR; ppoll is one of them.
      const tape = new Tape();
      const me = tape.syscall('getpid', []);
      const ends = tape.space(8);
      tape.syscall('pipe2', [ends, 0]);
      const [reader, writer] = [tape.load(ends, 4), tape.load(ends.at(4), 4)];
      clone(tape, () => {
        const pause = tape.struct(s.timespec(50));
        for (let round = 0; round < 3; round++) {
          tape.syscall('nanosleep', [pause, 0]);
          tape.syscall('kill', [me, c.SIGSTOP]);
          tape.syscall('nanosleep', [pause, 0]);
          tape.syscall('kill', [me, c.SIGCONT]);
        }
        tape.syscall('nanosleep', [pause, 0]);
        tape.syscall('write', [writer, 'x', 1]);
        tape.halt(0);
      });
      const polled = tape.struct(s.encode('pollfd', { fd: 0, events: c.POLLIN }));
      tape.store(reader, polled.at(...fieldOf('pollfd', 'fd')), 4);
      // epoll_pwait returns EINTR after SIGSTOP and SIGCONT (signal(7)).
      const epoll = tape.syscall('epoll_create1', [0]);
      const event = tape.bytes(Buffer.from([c.POLLIN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
      tape.syscall('epoll_ctl', [epoll, 1, reader, event]);
      const ready = tape.syscall('epoll_pwait', [epoll, tape.space(16), 1, -1, 0, 8]);
      tape.store(ready, tape.slot(1), 8);
      const { page, error } = await play(player, tape.assemble());
      assert.equal(error, undefined);
      assert.equal(page.slots[1], 1n);
    });

    test('an interrupted close is not repeated', async () => {
      // close of a bad descriptor fails once; the retry of EINTR would need a filesystem that interrupts. The rule is
      // checked on a seccomp filter that answers close with EINTR: repeated, it would never end.
      const tape = new Tape();
      const program: [number, number, number, number][] = [
        [0x20, 0, 0, 0], // load the number
        [0x15, 0, 1, process.arch === 'x64' ? 3 : 57], // close?
        [0x06, 0, 0, 0x00050000 | errnoNumbers.EINTR], // fails with EINTR
        [0x06, 0, 0, 0x7fff0000],
      ];
      const filter = tape.struct(
        s.encodeArray(program.map(([code, jt, jf, k]) => s.encode('sock_filter', { code, jt, jf, k }))),
      );
      const done = tape.label('done');
      tape.syscall('prctl', [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
      tape.syscall('seccomp', [
        c.SECCOMP_SET_MODE_FILTER,
        0,
        tape.struct(s.sockFprog(program.length, filter)),
      ]);
      tape.syscall('close', [0], { on: { EINTR: done } });
      tape.halt(9);
      tape.place(done);
      tape.halt(0);
      assert.equal((await play(player, tape.assemble())).waitStatus, 0);
    });

    test('a play killed by its own filter names the call, without one system call after it', async () => {
      const tape = new Tape();
      const program: [number, number, number, number][] = [
        [0x20, 0, 0, 0],
        [0x15, 0, 1, process.arch === 'x64' ? 39 : 172], // getpid
        [0x06, 0, 0, 0x80000000], // kills the process
        [0x06, 0, 0, 0x7fff0000],
      ];
      const filter = tape.struct(
        s.encodeArray(program.map(([code, jt, jf, k]) => s.encode('sock_filter', { code, jt, jf, k }))),
      );
      tape.syscall('prctl', [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
      tape.syscall('seccomp', [
        c.SECCOMP_SET_MODE_FILTER,
        0,
        tape.struct(s.sockFprog(program.length, filter)),
      ]);
      tape.step('process.user', 'look who it is');
      tape.syscall('getpid', []);
      const { waitStatus, error } = await play(player, tape.assemble());
      assert.equal(waitStatus, c.SIGSYS);
      assert.equal(
        error?.message,
        "look who it is: killed by the container's own seccomp filter at getpid(2)",
      );
    });

    test('a damaged tape is refused before anything is played', async () => {
      const path = join(folder, `never-${kind}`);
      const tape = new Tape();
      tape.syscall('mkdirat', [c.AT_FDCWD, path, 0o700]);
      tape.halt(0);
      const assembled = tape.assemble();
      const image = Buffer.from(assembled.image);
      image[64 + INSTRUCTION_BYTES + Field.OP] = Op.SET + 1;
      const { waitStatus, error, page } = await play(player, assembled, { image });
      assert.equal(waitStatus, 2 << 8);
      assert.equal(error?.message, 'tape: the player refused the tape at instruction 1'.slice(6));
      assert.equal(page.lanes[0]?.errno, errnoNumbers.EINVAL);
      assert.ok(!existsSync(path));
    });

    test('the program that a tape executes gets 0-2, arguments and environment, and nothing else', async () => {
      const tape = new Tape();
      const argv = ['sh', '-c', 'echo $0 $1 $A; ls /proc/self/fd | wc -l', 'one two'].map((text) =>
        tape.cstr(text),
      );
      const environment = tape.pointers([tape.cstr('A=b c'), tape.cstr('PATH=/bin:/usr/bin'), null]);
      const next = tape.label('next');
      tape.syscall('execve', ['/absent/sh', tape.pointers([...argv, null]), environment], {
        on: { ENOENT: next },
      });
      tape.place(next);
      tape.syscall('execve', ['/bin/sh', tape.pointers([...argv, null]), environment]);
      const { stdout, waitStatus } = await play(player, tape.assemble());
      // ls itself holds /proc/self/fd open.
      assert.equal(stdout.replace(/\s+$/, ''), 'one two b c\n4');
      assert.equal(waitStatus, 0);
    });

    test('what the starter ignores and blocks does not reach the program', async () => {
      const show = new Tape();
      const argv = ['grep', '-E', 'Sig(Ign|Blk)', '/proc/self/status'].map((text) => show.cstr(text));
      show.syscall('execve', ['/bin/grep', show.pointers([...argv, null]), show.pointers([null])]);
      const path = join(folder, `show-${kind}`);
      writeFileSync(path, Buffer.concat([Buffer.alloc(PAGE_BYTES), show.assemble().image]));

      const starter = new Tape();
      const SIG_IGN = 1;
      const ignore = starter.struct(s.encode('sigaction', { sa_handler: SIG_IGN }));
      for (const signal of [c.SIGHUP, c.SIGPIPE, c.SIGXFSZ, 40])
        starter.syscall('rt_sigaction', [signal, ignore, 0, 8]);
      const mask = starter.bytes(Buffer.from('ffffffffffffffff', 'hex'));
      starter.syscall('rt_sigprocmask', [c.SIG_SETMASK, mask, 0, 8]);
      // The player has closed its own tape, so this becomes descriptor 3.
      starter.syscall('openat', [c.AT_FDCWD, path, c.O_RDWR]);
      starter.syscall('execve', [
        player,
        starter.pointers([starter.cstr('player'), null]),
        starter.pointers([null]),
      ]);
      const { stdout, error } = await play(player, starter.assemble());
      assert.equal(error, undefined);
      assert.deepEqual(stdout.match(/[0-9a-f]{16}/g), ['0000000000000000', '0000000000000000']);
    });

    test('openat2 succeeds in a root while others mount and rename', async () => {
      const root = join(folder, `root-${kind}`);
      mkdirSync(join(root, 'run'), { recursive: true });
      mkdirSync(join(root, 'etc'));
      symlinkSync('../run', join(root, 'etc/lnk'));
      writeFileSync(join(root, 'run/file'), '');
      chmodSync(root, 0o755);
      const disturb = ['a', 'b'].map((name) => {
        const from = join(folder, `${name}-${kind}`);
        mkdirSync(from);
        const script = `mount --make-rprivate /; while :; do mount -t tmpfs t ${from}; umount ${from}; mv ${from} ${from}2; mv ${from}2 ${from}; done`;
        return execFile('unshare', ['-m', 'sh', '-c', script]);
      });
      try {
        const tape = new Tape();
        const flags = c.O_PATH | c.O_CLOEXEC | c.O_DIRECTORY;
        const base = tape.syscall('openat', [c.AT_FDCWD, root, flags]);
        const how = tape.struct(
          s.openHow(c.O_PATH | c.O_CLOEXEC, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS),
        );
        for (let round = 0; round < 20000; round++)
          tape.syscall('close', [tape.syscall('openat2', [base, 'etc/lnk/file', how, sizeOf('open_how')])]);
        tape.halt(0);
        const { error } = await play(player, tape.assemble());
        assert.equal(error, undefined);
      } finally {
        await Promise.all(
          disturb.map(
            (child) =>
              new Promise((done) => {
                child.on('close', done);
                child.kill('SIGKILL');
              }),
          ),
        );
      }
    });
  });
