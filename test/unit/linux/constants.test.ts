import assert from 'node:assert/strict';
import { test } from 'node:test';
import { archIndex, currentArch } from '../../../src/linux/arch.ts';
import * as constants from '../../../src/linux/constants.ts';
import { errnoName, errnoNumbers, errnoText } from '../../../src/linux/errno.ts';
import { syscallName, syscallNumber, syscallNumbers } from '../../../src/linux/syscalls.ts';
import { cValues, runC } from './c-values.ts';

/** Which headers have which names; some headers cannot be included together. */
const groups: readonly { headers: string[]; names: RegExp }[] = [
  { headers: ['asm/termbits.h', 'asm/ioctls.h'], names: /^(TC[GS]|TIOC|ONLCR|OPOST|ICANON|ECHO$|ISIG)/ },
  {
    headers: ['fcntl.h', 'linux/mount.h'],
    names: /^(OPEN_TREE|MOVE_MOUNT|FSOPEN|FSPICK|FSMOUNT|MOUNT_ATTR|FSCONFIG)_|^AT_RECURSIVE/,
  },
  {
    headers: ['fcntl.h', 'sys/file.h', 'unistd.h', 'stdio.h'],
    names: /^([OF]_|FD_|F_|LOCK_|SEEK_|[RWXF]_OK|RENAME_)/,
  },
  { headers: ['fcntl.h'], names: /^AT_/ },
  { headers: ['linux/openat2.h', 'linux/close_range.h'], names: /^(RESOLVE_|CLOSE_RANGE_)/ },
  { headers: ['sys/stat.h'], names: /^S_I/ },
  { headers: ['linux/stat.h'], names: /^STATX_/ },
  { headers: ['sys/mount.h'], names: /^(MS_|MNT_|UMOUNT_)/ },
  { headers: ['linux/sched.h', 'linux/ioprio.h', 'linux/mempolicy.h'], names: /^(CLONE|SCHED|IOPRIO|MPOL)_/ },
  { headers: ['linux/nsfs.h'], names: /^NS_/ },
  { headers: ['sys/wait.h', 'signal.h'], names: /^(W[A-Z]+$|P_|__W|SIG)/ },
  {
    headers: ['sys/prctl.h', 'linux/capability.h', 'linux/securebits.h', 'linux/seccomp.h'],
    names: /^(PR|CAP|SECBIT|SECCOMP)_/,
  },
  { headers: ['sys/resource.h', 'linux/keyctl.h'], names: /^(RLIMIT|PRIO|KEYCTL|KEY)_/ },
  {
    headers: ['sys/socket.h', 'net/if.h', 'linux/sockios.h'],
    names: /^(AF|SOCK|SOL|SO|SCM|MSG|SHUT|IFF)_|^SIOC/,
  },
  {
    headers: ['sys/mman.h', 'poll.h', 'sys/eventfd.h', 'sys/personality.h'],
    names: /^(MFD|EFD|PER|ADDR)_|^POLL/,
  },
];

/** Younger than Debian 12's headers; values from the kernel's own. */
const younger = { MFD_EXEC: 0x10, MOVE_MOUNT_BENEATH: 0x200 };

test('every flag has the value of the C headers', () => {
  const { openFlags: _, ...flags } = constants;
  const left = new Map<string, bigint>(Object.entries(flags).map(([name, value]) => [name, BigInt(value)]));
  for (const [name, value] of Object.entries(younger)) {
    assert.equal(left.get(name), BigInt(value), name);
    left.delete(name);
  }
  for (const { headers, names } of groups) {
    const ours = [...left].filter(([name]) => names.test(name));
    assert.notEqual(ours.length, 0, `no name matches ${names}`);
    const values = cValues(
      headers,
      ours.map(([name]) => name),
    );
    ours.forEach(([name, value], index) => {
      assert.equal(value, values[index], name);
      left.delete(name);
    });
  }
  assert.deepEqual([...left.keys()], [], 'names that no header was asked for');
});

test('open flags of aarch64 are those of its asm/fcntl.h', () => {
  // Octal literals of arch/arm64/include/uapi/asm/fcntl.h.
  assert.deepEqual(constants.openFlags.aarch64, {
    O_DIRECTORY: 0o40000,
    O_NOFOLLOW: 0o100000,
    O_DIRECT: 0o200000,
  });
  assert.equal(constants.O_DIRECTORY, constants.openFlags[currentArch()].O_DIRECTORY);
});

test('system call numbers are those of both architectures', () => {
  const names = Object.keys(syscallNumbers) as (keyof typeof syscallNumbers)[];
  const expressions = names.map((name) => `__NR_${name}`);
  const x86 = cValues(['asm/unistd_64.h'], expressions);
  const generic = cValues(
    ['asm-generic/unistd.h'],
    expressions,
    // What arch/arm64/include/uapi/asm/unistd.h asks for.
    '#define __BITS_PER_LONG 64\n#define __ARCH_WANT_RENAMEAT\n#define __ARCH_WANT_NEW_STAT\n' +
      '#define __ARCH_WANT_SET_GET_RLIMIT\n#define __ARCH_WANT_SYS_CLONE3',
  );
  names.forEach((name, index) => {
    assert.deepEqual(syscallNumbers[name].map(BigInt), [x86[index], generic[index]], name);
  });
  assert.equal(syscallName(syscallNumber('openat2', 'aarch64'), 'aarch64'), 'openat2');
  assert.equal(syscallName(99999, 'x86_64'), undefined);
  assert.equal(archIndex('aarch64'), 1);
});

test("errno names, numbers and texts are libc's, with a lower-case first word", () => {
  const names = Object.keys(errnoNumbers) as (keyof typeof errnoNumbers)[];
  const lines = runC(
    [
      '#include <errno.h>',
      '#include <stdio.h>',
      '#include <string.h>',
      'int main(void) {',
      ...names.map((name) => `  printf("%d %s\\n", ${name}, strerror(${name}));`),
      '}',
    ].join('\n'),
  );
  lines
    .trim()
    .split('\n')
    .forEach((line, index) => {
      const name = names[index]!;
      const text = line
        .slice(line.indexOf(' ') + 1)
        .replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());
      assert.equal(
        `${errnoNumbers[name]} ${errnoText(errnoNumbers[name])}`,
        `${Number.parseInt(line, 10)} ${text}`,
      );
      assert.equal(errnoName(-errnoNumbers[name]), name);
    });
  assert.equal(errnoText(2), 'no such file or directory');
  assert.equal(errnoText(4095), 'errno 4095');
});

test('no system call is newer than Linux 5.14, the oldest kernel that Wherry runs on', () => {
  // 447 is memfd_secret; from 424 on the numbers are those of all architectures.
  for (const [name, numbers] of Object.entries(syscallNumbers)) {
    assert.ok(Math.max(...numbers) <= 447, `${name}: probe it, fall back, and name it here`);
  }
});
