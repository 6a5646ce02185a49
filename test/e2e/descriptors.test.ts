/** keel or wherryd may open nothing more: what runs goes on and can be ended, what is new waits or is refused, and a higher limit is all it takes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Containerd } from '../support/containerd.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, must, run } from '../support/run.ts';
import { envOf, kill, leftOf, remove, start, statusOf, timeout, tryToRun, wherry } from './shortage.ts';

describe('no descriptor is left, containerd 2.1', { timeout: 300_000 }, () => {
  let containerd: Containerd;
  before(async () => {
    containerd = await Containerd.start('2.1');
  });
  after(() => containerd?.[Symbol.asyncDispose]());

  const daemon = () => containerd.daemon();
  const limit = (pid: number, soft: string) => must('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
  const log = () => readFileSync(join(containerd.runDir, 'wherryd.log'), 'utf8');
  const softLimit = (pid: number) =>
    /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'latin1'))?.[1] ?? '';
  const gone = (id: string) => remove(containerd, id, { timeout });
  /** One that ran all the time, and a new one. */
  async function worksOn(ran: string, was: { keel: number; wherryd: number }): Promise<void> {
    for (const id of [ran, await start(containerd)]) {
      await kill(containerd, id);
      await gone(id);
    }
    assert.deepEqual(await daemon(), was, 'without a restart');
  }

  test('in keel', async () => {
    const [a, b] = [await start(containerd), await start(containerd)];
    const was = await daemon();
    const { keel } = was;
    const soft = softLimit(keel);
    await limit(keel, '3');
    const listing = run(wherry, ['daemon', 'status'], { env: envOf(containerd), timeout });
    await eventually('it says so', () => /cannot accept: Too many open files/.test(log()) || undefined);
    assert.equal(await statusOf(containerd, a), 'RUNNING');
    await kill(containerd, b);
    await limit(keel, soft);
    assert.equal((await listing).code, 0, 'it waited');
    await gone(b);
    await worksOn(a, was);
  });

  test('in wherryd', async () => {
    const [a, b] = [await start(containerd), await start(containerd)];
    const was = await daemon();
    const { wherryd } = was;
    const soft = softLimit(wherryd);
    await limit(wherryd, '3');
    const refused = uniqueId('refused');
    const failed = await tryToRun(containerd, refused);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /too many open files/i);
    await containerd.ctr(['container', 'rm', refused]);
    assert.equal(await statusOf(containerd, a), 'RUNNING');
    await kill(containerd, b);
    await limit(wherryd, soft);
    await eventually('nothing of it is left', () => leftOf(containerd, refused).length === 0 || undefined);
    await gone(b);
    await worksOn(a, was);
    assert.doesNotMatch(log(), /uncaught|unhandled/);
  });
});
