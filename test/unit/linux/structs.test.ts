import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as structs from '../../../src/linux/structs.ts';
import { fieldOf, layouts, type StructName } from '../../../src/linux/structs-layout.ts';
import { cValues } from './c-values.ts';

const headers: Record<StructName, string[]> = {
  clone_args: ['linux/sched.h'],
  open_how: ['linux/openat2.h'],
  mount_attr: ['linux/mount.h'],
  __user_cap_header_struct: ['linux/capability.h'],
  __user_cap_data_struct: ['linux/capability.h'],
  sock_filter: ['linux/filter.h'],
  sock_fprog: ['linux/filter.h'],
  msghdr: ['sys/socket.h'],
  iovec: ['sys/socket.h'],
  cmsghdr: ['sys/socket.h'],
  ucred: ['sys/socket.h'],
  sockaddr_un: ['sys/un.h'],
  ifreq: ['linux/if.h'],
  rlimit64: ['linux/resource.h'],
  sigaction: ['asm/signal.h'],
  sched_attr: ['linux/types.h', 'linux/sched/types.h'],
  statx: ['linux/stat.h'],
  timespec: ['time.h'],
  pollfd: ['poll.h'],
  winsize: ['asm/termios.h'],
  termios: ['asm/termbits.h'],
};

test('sizes and offsets are those of the C headers', () => {
  for (const [name, { size, fields }] of Object.entries(layouts)) {
    const expressions = Object.keys(fields).flatMap((field) => [
      `offsetof(struct ${name}, ${field})`,
      `sizeof(((struct ${name} *)0)->${field})`,
    ]);
    const [total, ...values] = cValues(headers[name as StructName], [
      `sizeof(struct ${name})`,
      ...expressions,
    ]);
    assert.equal(BigInt(size), total, `sizeof ${name}`);
    const expected = Object.values(fields).flat().map(BigInt);
    assert.deepEqual(expected, values, name);
  }
});

test('encode writes little endian numbers of either sign, bytes and addresses where they belong', () => {
  const { bytes, pointers } = structs.encode<'clone_args', string>('clone_args', {
    flags: 0x2_0000_0000n,
    pidfd: { to: 'here' },
    exit_signal: 17,
    cgroup: -1,
  });
  const view = Buffer.from(bytes);
  assert.equal(view.readBigUInt64LE(0), 0x2_0000_0000n);
  assert.equal(view.readBigUInt64LE(32), 17n);
  assert.equal(view.readBigInt64LE(80), -1n);
  assert.deepEqual(pointers, [{ offset: 8, to: 'here' }]);
  assert.equal(bytes.length, 88);
});

test('encode refuses what does not fit', () => {
  assert.throws(
    () => structs.encode('winsize', { ws_row: 65536 }),
    /ws_row: 65536 does not fit into 2 bytes/,
  );
  assert.throws(
    () => structs.encode<'winsize', number>('winsize', { ws_row: { to: 1 } }),
    /cannot hold an address/,
  );
  assert.throws(() => structs.ifreqFlags('a-name-with-16-b', 1), /longer than 15 bytes/);
  assert.throws(() => structs.sockaddrUn('x'.repeat(109)), /109 bytes do not fit into 108/);
  assert.throws(() => structs.cloneArgs({ flags: 0x100, exitSignal: 17 }), /CLONE_VM/);
});

test('capabilities are split into two words of three sets', () => {
  const { bytes } = structs.capData({ effective: 1n << 40n, permitted: (1n << 41n) - 1n, inheritable: 1n });
  const words = Array.from({ length: 6 }, (_, index) => Buffer.from(bytes).readUInt32LE(index * 4));
  assert.deepEqual(words, [0, 0xffffffff, 1, 0x100, 0x1ff, 0]);
  assert.equal(Buffer.from(structs.capHeader().bytes).readUInt32LE(0), 0x20080522);
});

test('pointers of arrays keep their places', () => {
  const { pointers, bytes } = structs.iovecs([
    { at: 'a', length: 1 },
    { at: 'b', length: 2 },
  ]);
  assert.deepEqual(pointers, [
    { offset: 0, to: 'a' },
    { offset: 16, to: 'b' },
  ]);
  assert.equal(Buffer.from(bytes).readBigUInt64LE(24), 2n);
});

test('a control message for descriptors is as CMSG_LEN and CMSG_SPACE have it', () => {
  const { bytes } = structs.scmRights([5, 6, 7]);
  const [length, space] = cValues(['sys/socket.h'], ['CMSG_LEN(12)', 'CMSG_SPACE(12)']);
  assert.equal(BigInt(bytes.length), space);
  assert.equal(Buffer.from(bytes).readBigUInt64LE(0), length);
  assert.equal(Buffer.from(bytes).readInt32LE(structs.scmRightsOffset(2)), 7);
});

test('a negative limit is unlimited', () => {
  const { bytes } = structs.rlimit64(-1n, 5n);
  assert.equal(Buffer.from(bytes).readBigUInt64LE(0), 0xffff_ffff_ffff_ffffn);
  assert.deepEqual(fieldOf('rlimit64', 'rlim_max'), [8, 8]);
});
