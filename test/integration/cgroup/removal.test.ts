/** A cgroup whose last process is still there: its removal waits for the kernel's word instead of trying again and again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { compileRemove } from '../../../src/container/compile/remove.ts';
import { dist } from '../../support/paths.ts';
import { play } from '../player/player.ts';

const { unified } = detectCgroups();
const player = join(dist, 'libexec/wherry/player');

test('removal waits for the last process of a cgroup of v2', { skip: unified === undefined }, async () => {
  const directory = `${unified?.mountPoint}/wherry-test-removal-${process.pid}`;
  mkdirSync(directory);
  const child = spawn('/bin/sleep', ['1000'], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  try {
    writeFileSync(`${directory}/cgroup.procs`, String(child.pid));
    const busy = await play(player, compileRemove({ rootfs: undefined, cgroupDirectories: [directory] }));
    assert.match(busy.error?.message ?? '', /remove the cgroup .*: .*busy/i);
    const tape = compileRemove({ rootfs: undefined, cgroupDirectories: [directory], waitForTheLast: true });
    const patient = await play(player, tape, {
      started: () => setTimeout(() => child.kill('SIGKILL'), 200),
    });
    assert.equal(patient.error, undefined);
    assert.equal(existsSync(directory), false);
    assert.equal((await play(player, tape)).error, undefined, 'of one that is gone nothing is to be done');
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
});
