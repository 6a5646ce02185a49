/** What src/ calls in C libraries, as it stands in the sources: some calls have no place in a process with threads. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../../support/paths.ts';

const sources = globSync('{src,shim}/**/*.ts', { cwd: root }).map((file) => ({
  file,
  text: readFileSync(join(root, file), 'utf8'),
}));
/** Names of the functions that are declared for FFI. */
const declared = sources.flatMap(({ text }) =>
  [...text.matchAll(/\.func\(\s*['"`]([^'"`]*)['"`]/g)].map(([, prototype = '']) =>
    (/([A-Za-z_0-9]+)\s*\(/.exec(prototype)?.[1] ?? prototype).trim(),
  ),
);
/** System calls that are made by number. */
const byNumber = sources
  .filter(({ text }) => text.includes('koffi') || text.includes("from './library.ts'"))
  .flatMap(({ text }) =>
    [...text.matchAll(/syscallNumber\(\s*'([a-z_0-9]+)'/g)].map(([, name]) => name ?? ''),
  );

describe('the process of wherryd', () => {
  it('only known calls are declared: a new one is looked at with these hazards in mind', () => {
    const known =
      /^(seccomp_\w+|sd_bus_\w+|syscall|open|close|read|pread|write|socket|setsockopt|getsockopt|bind|send|recv|sendmsg|recvmsg|memfd_create|eventfd)$/;
    assert.ok(declared.length > 20);
    assert.deepEqual(
      declared.filter((name) => !known.test(name)),
      [],
    );
    for (const { file, text } of sources) {
      if (text.includes("from 'koffi'")) assert.match(file, /^src\/linux\//);
    }
  });

  it('changes no namespace: that is for processes with one thread', () => {
    const all = [...declared, ...byNumber];
    for (const name of [
      'setns',
      'unshare',
      'chroot',
      'pivot_root',
      'mount',
      'umount2',
      'setresuid',
      'setuid',
    ]) {
      assert.ok(!all.includes(name), name);
    }
  });

  it('makes no process: keel and the client do', () => {
    const all = [...declared, ...byNumber];
    for (const name of ['fork', 'vfork', 'clone', 'clone3', 'posix_spawn', 'execve', 'system', 'popen']) {
      assert.ok(!all.includes(name), name);
    }
    for (const { file, text } of sources) assert.doesNotMatch(text, /child_process|node:cluster/, file);
  });

  it('the player is static and links no library', () => {
    const makefile = readFileSync(join(root, 'native/Makefile'), 'utf8');
    assert.match(makefile, /^LINK = -static$/m);
    assert.match(makefile, /^NOLIBC = .*-nostdlib/ms);
    for (const name of ['player.c', 'play.c']) {
      const text = readFileSync(join(root, 'native', name), 'utf8');
      assert.doesNotMatch(text, /\b(malloc|calloc|getpwnam|getpwuid|setlocale|printf)\s*\(/, name);
    }
  });
});
