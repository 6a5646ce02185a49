/** The run folder is full: what needs room fails with a clear error and leaves nothing, what runs goes on, and room is all it takes. */
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Containerd } from '../support/containerd.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, must } from '../support/run.ts';
import { envOf, kill, leftOf, remove, start, statusOf, timeout, tryToRun, wherry } from './shortage.ts';

describe('a full run folder, containerd 2.1', { timeout: 300_000 }, () => {
  let containerd: Containerd;
  before(async () => {
    containerd = await Containerd.start('2.1');
    await must('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'wherry-test', containerd.runDir]);
  });
  after(async () => {
    if (containerd === undefined) return;
    release();
    const { runDir } = containerd;
    try {
      await must(wherry, ['daemon', 'stop', '--force'], { env: envOf(containerd), timeout });
    } finally {
      await must('umount', ['-l', runDir]);
      await containerd[Symbol.asyncDispose]();
    }
  });

  const filler = () => join(containerd.runDir, 'filler');
  const release = (): void => rmSync(filler(), { force: true });
  /** To the last page. */
  function fill(): void {
    writeFileSync(filler(), '');
    // Again where a file that was being replaced has given its page back meanwhile.
    for (let size = 65_536; size > 4096 || statfsSync(containerd.runDir).bfree > 0; size = 4096)
      try {
        for (;;) appendFileSync(filler(), Buffer.alloc(size));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      }
  }
  const wherryd = async () => (await containerd.daemon()).wherryd;
  const status = (id: string) => statusOf(containerd, id);
  async function end(id: string): Promise<void> {
    await kill(containerd, id);
    await remove(containerd, id);
  }

  test('new things are refused, what runs goes on, and works again when there is room', async () => {
    const [a, b, c] = [await start(containerd), await start(containerd), await start(containerd)];
    const pid = await wherryd();
    fill();
    const refused = uniqueId('refused');
    const run = await tryToRun(containerd, refused);
    assert.notEqual(run.code, 0);
    assert.match(run.stderr, /no space left/i);
    assert.match(run.stderr, /make room in the run folder/);
    await containerd.ctr(['container', 'rm', refused]);
    await eventually('nothing of it is left', () => leftOf(containerd, refused).length === 0 || undefined);
    const exec = await containerd.ctr(['task', 'exec', '--exec-id', 'e1', a, '/bin/true'], { timeout });
    assert.notEqual(exec.code, 0);
    assert.match(exec.stderr, /no space left/i);
    assert.match(exec.stderr, /make room in the run folder/);
    await containerd.mustCtr(['task', 'pause', a]);
    assert.equal(await status(a), 'PAUSED');
    await containerd.mustCtr(['task', 'resume', a]);
    assert.equal(await status(a), 'RUNNING');
    await end(b);
    // The next wherryd finds them all, without room for anything.
    process.kill(await wherryd(), 'SIGKILL');
    assert.equal(await status(a), 'RUNNING');
    await end(c);
    assert.notEqual(await wherryd(), pid);
    const now = await wherryd();
    release();
    const exec2 = await containerd.ctr(['task', 'exec', '--exec-id', 'e1', a, '/bin/sh', '-c', 'exit 3'], {
      timeout,
    });
    assert.equal(exec2.code, 3, exec2.stderr);
    await end(await start(containerd));
    await end(a);
    assert.equal(await wherryd(), now, 'without a restart');
    assert.doesNotMatch(readFileSync(join(containerd.runDir, 'wherryd.log'), 'utf8'), /uncaught|unhandled/);
    assert.equal(existsSync(join(containerd.runDir, 'damaged')), false);
  });
});
