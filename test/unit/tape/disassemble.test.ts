import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Arch } from '../../../src/linux/arch.ts';
import * as c from '../../../src/linux/constants.ts';
import * as s from '../../../src/linux/structs.ts';
import { disassemble } from '../../../src/tape/disassemble.ts';
import { TapeError } from '../../../src/tape/refs.ts';
import { Tape } from '../../../src/tape/tape.ts';

function sample(arch: Arch): Tape {
  const tape = new Tape(arch);
  const { O_DIRECTORY } = c.openFlags[arch];
  const create = tape.label('create');
  const opened = tape.label('opened');
  tape.step('mounts[3]', 'mount tmpfs on /dev');
  const how = tape.struct(
    s.openHow(c.O_PATH | c.O_CLOEXEC | O_DIRECTORY, c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS),
  );
  const target = tape.syscall('openat2', [6, 'dev', how, 24], { on: { ENOENT: create } });
  tape.jump(opened);
  tape.place(create);
  tape.syscall('mkdirat', [6, 'dev', 0o755]);
  tape.syscall('openat2', [6, 'dev', how, 24], { into: target });
  tape.place(opened);
  const fs = tape.syscall('fsopen', ['tmpfs', c.FSOPEN_CLOEXEC]);
  tape.syscall('fsconfig', [fs, c.FSCONFIG_SET_STRING, 'mode', '755', 0]);
  tape.syscall('fsconfig', [fs, c.FSCONFIG_CMD_CREATE, 0, 0, 0]);
  const mount = tape.syscall('fsmount', [
    fs,
    c.FSMOUNT_CLOEXEC,
    c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_STRICTATIME,
  ]);
  tape.syscall('move_mount', [mount, '', target, '', c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH]);
  tape.step('linux.devices', 'make /dev/null');
  tape.syscall('mknodat', [mount, 'null', c.S_IFCHR | 0o666, 0x103]);
  return tape;
}

const expected = `mount tmpfs on /dev  [mounts[3]]
   0  openat2(6, "dev", {flags: O_CLOEXEC|O_DIRECTORY|O_PATH, resolve: RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}, 24) -> r0   on ENOENT goto create
   2  goto opened
     create:
   3  mkdirat(6, "dev", 0755)
   4  openat2(6, "dev", {flags: O_CLOEXEC|O_DIRECTORY|O_PATH, resolve: RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}, 24) -> r0
     opened:
   5  fsopen("tmpfs", FSOPEN_CLOEXEC) -> r1
   6  fsconfig(r1, FSCONFIG_SET_STRING, "mode", "755", 0)
   7  fsconfig(r1, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
   8  fsmount(r1, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_STRICTATIME) -> r1
   9  move_mount(r1, "", r0, "", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)
make /dev/null  [linux.devices]
  10  mknodat(r1, "null", S_IFCHR|0666, 1:3)
  11  halt 0
`;

for (const arch of ['x86_64', 'aarch64'] as const)
  test(`a mount reads the same on ${arch}`, () => {
    assert.equal(disassemble(sample(arch).assemble()), expected);
  });

test('instructions that are no system call', () => {
  const tape = new Tape('x86_64');
  const pipe = tape.space(8);
  const text = tape.space(20);
  const parent = tape.label('parent');
  tape.syscall('pipe2', [pipe, c.O_CLOEXEC]);
  const end = tape.load(pipe.at(4), 4);
  const copy = tape.set(end);
  tape.store(copy, tape.slot(3), 8);
  const length = tape.decimal(copy, text);
  tape.syscall('write', [1, text, length]);
  tape.jumpIf(copy, 0xff00, 0x100, parent);
  tape.jumpIfEqual(copy, 0, parent);
  tape.lane(1);
  tape.fail('EPIPE');
  tape.place(parent);
  tape.halt(3);
  assert.equal(
    disassemble(tape.assemble()),
    `   0  pipe2(data+0, O_CLOEXEC)
   1  load data+4 (4 bytes) -> r0
   2  set r0 -> r0
   3  store r0 to slot[3] (8 bytes)
   4  decimal r0 to data+8 -> r1
   5  write(1, data+8, r1)
   6  if (r0 & 0xff00) == 0x100 goto parent
   7  if r0 == 0 goto parent
   8  lane 1
   9  fail EPIPE
     parent:
  10  halt 3
`,
  );
});

test('flags, capabilities, limits and lists are named', () => {
  const tape = new Tape('x86_64');
  const flags = BigInt(c.CLONE_NEWNS | c.CLONE_NEWPID) | c.CLONE_INTO_CGROUP;
  tape.syscall('clone3', [tape.struct(s.cloneArgs({ flags, exitSignal: c.SIGCHLD, cgroup: 9 })), 88]);
  tape.syscall('capset', [
    tape.struct(s.capHeader()),
    tape.struct(s.capData({ effective: 1n << 5n, permitted: (1n << 41n) - 1n, inheritable: 0n })),
  ]);
  tape.syscall('prctl', [c.PR_CAPBSET_DROP, c.CAP_SYS_ADMIN, 0, 0, 0]);
  tape.syscall('prctl', [c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, c.CAP_KILL, 0, 0]);
  tape.syscall('prctl', [c.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
  tape.syscall('prlimit64', [0, c.RLIMIT_NOFILE, tape.struct(s.rlimit64(1024n, -1n)), 0]);
  tape.syscall('setgroups', [2, tape.bytes(new Uint8Array(new Uint32Array([5, 7]).buffer))]);
  tape.syscall('setresuid', [-1, 1000, 1000]);
  tape.syscall('close_range', [3, 0xffffffff, c.CLOSE_RANGE_CLOEXEC]);
  tape.syscall('fcntl', [4, c.F_SETFD, 0]);
  tape.syscall('umount2', ['.', c.MNT_DETACH]);
  tape.syscall('socket', [c.AF_INET, c.SOCK_DGRAM | c.SOCK_CLOEXEC, 0]);
  tape.syscall('sethostname', ['host', 4]);
  tape.syscall('ioctl', [3, c.SIOCSIFFLAGS, tape.struct(s.ifreqFlags('lo', c.IFF_UP))]);
  tape.syscall('rt_sigaction', [c.SIGPIPE, tape.struct(s.defaultSigaction()), 0, 8]);
  const env = Array.from({ length: 14 }, (_, index) => tape.cstr(`V${index}=1`));
  tape.syscall('execve', ['/bin/sh', tape.pointers([tape.cstr('sh'), null]), tape.pointers([...env, null])]);
  const assembled = tape.assemble();
  const text = disassemble(assembled);
  const lines = text.split('\n').map((line) => line.slice(6));
  assert.deepEqual(lines.slice(0, -2), [
    'clone3({flags: CLONE_INTO_CGROUP|CLONE_NEWNS|CLONE_NEWPID, exit_signal: SIGCHLD, cgroup: 9}, 88)',
    'capset({version: 0x20080522}, {effective: CAP_KILL, permitted: all, inheritable: none})',
    'prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)',
    'prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0)',
    'prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)',
    'prlimit64(0, RLIMIT_NOFILE, {rlim_cur: 1024, rlim_max: unlimited}, NULL)',
    'setgroups(2, [5, 7])',
    'setresuid(-1, 1000, 1000)',
    'close_range(3, max, CLOSE_RANGE_CLOEXEC)',
    'fcntl(4, F_SETFD, 0)',
    'umount2(".", MNT_DETACH)',
    'socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0)',
    'sethostname("host", 4)',
    'ioctl(3, SIOCSIFFLAGS, {ifr_name: "lo", ifr_flags: IFF_UP})',
    'rt_sigaction(SIGPIPE, {}, NULL, 8)',
    'execve("/bin/sh", ["sh"], ["V0=1", "V1=1", "V2=1", "V3=1", "V4=1", "V5=1", "V6=1", "V7=1", "V8=1", "V9=1", "V10=1", "V11=1", … 2 more])',
  ]);
  assert.ok(disassemble(assembled, { full: true }).includes('"V13=1"'));
});

test('labels of one name are told apart, and steps that repeat are headed once', () => {
  const tape = new Tape('x86_64');
  for (const name of ['a', 'b']) {
    const there = tape.label('there');
    tape.step('linux.cgroupsPath', 'make the cgroup');
    tape.syscall('mkdirat', [c.AT_FDCWD, name, 0o755], {
      on: { EEXIST: there, EACCES: there, EROFS: there },
    });
    tape.syscall('sync', []);
    tape.place(there);
  }
  assert.equal(
    disassemble(tape.assemble()),
    `make the cgroup  [linux.cgroupsPath]
   0  mkdirat(AT_FDCWD, "a", 0755)   on EEXIST, EACCES, EROFS goto there@5
   4  sync()
     there@5:
   5  mkdirat(AT_FDCWD, "b", 0755)   on EEXIST, EACCES, EROFS goto there@10
   9  sync()
     there@10:
  10  halt 0
`,
  );
});

test('a handler that goes to the next line is shown as ignoring the error', () => {
  const tape = new Tape('x86_64');
  const there = tape.label('there');
  const denied = tape.label('denied');
  tape.syscall('mkdirat', [c.AT_FDCWD, 'a', 0o755], { on: { EEXIST: there, EPERM: there, EACCES: denied } });
  tape.place(there);
  tape.set(tape.cstr('/bin/sh'));
  tape.place(denied);
  assert.equal(
    disassemble(tape.assemble()),
    `  0  mkdirat(AT_FDCWD, "a", 0755)   ignore EEXIST, EPERM; on EACCES goto denied
  4  set "/bin/sh"
    denied:
  5  halt 0
`,
  );
});

test('a tape from elsewhere is explained from its bytes alone', () => {
  const { image } = sample('aarch64').assemble();
  const text = disassemble({ image, steps: [], arch: 'aarch64' });
  assert.match(text, /^step 1\n/);
  assert.match(text, /on ENOENT goto L3/);
});

test('bytes that are no tape are refused', () => {
  const { image } = sample('x86_64').assemble();
  const explain = (bytes: Uint8Array) => () => disassemble({ image: bytes, steps: [], arch: 'x86_64' });
  assert.throws(
    explain(new Uint8Array(10)),
    (error) => error instanceof TapeError && error.kind === 'invalid-argument',
  );
  assert.throws(explain(image.subarray(0, 100)), /cut off/);
});
