/** wherryd dies between an exec's making and its start: whoever reads its output from before goes on reading. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Containerd } from '../support/containerd.ts';
import { eventually, must, run } from '../support/run.ts';
import { ShimCaller } from '../support/shim-caller.ts';
import { processOf } from './shim/life.ts';

let containerd: Containerd;
before(async () => {
  containerd = await Containerd.start('2.1');
});
after(() => containerd?.stop());

test('an exec that is started long after a death of wherryd has its output', async () => {
  await using caller = new ShimCaller(containerd);
  const { id, client } = await caller.make('late', ['/bin/sleep', '1000']);
  const stdout = join(caller.folder, `${id}.out`);
  await must('mkfifo', [stdout]);
  const reader = run('cat', [stdout], { timeout: 60_000 });
  await client.call('Exec', { id, execId: 'e', stdout, spec: processOf('/bin/echo', 'word') });
  const { wherryd } = await containerd.daemon();
  process.kill(wherryd, 'SIGKILL');
  await eventually('the next one', async () => (await containerd.daemon()).wherryd !== wherryd || undefined);
  // Calls that are repeated come at once; this one has not been made before, and may come whenever it likes.
  await sleep(6000);
  await client.call('Start', { id, execId: 'e' });
  assert.deepEqual(await reader, { code: 0, stdout: 'word\n', stderr: '' });
});
