/** wherryd dies at every named point of a container's life under a real containerd; `npm run fault` does more of it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FaultHarness } from '../fault/harness.ts';
import { cases } from '../fault/points.ts';

let harness: FaultHarness;

before(async () => {
  harness = await FaultHarness.start('2.1');
});

after(async () => {
  await harness[Symbol.asyncDispose]();
});

for (const { point, act } of cases()) {
  test(`${point}, armed before ${act}`, async () => {
    const outcome = await harness.life(point, (next) => {
      if (next === act) harness.arm(point);
    });
    assert.equal(harness.armed(point), false, 'the point is reached');
    assert.deepEqual(outcome.wrong, []);
    assert.equal(outcome.deaths, 1);
  });
}

test('a create that is being undone when the next wherryd dies, too', async () => {
  const outcome = await harness.life('undo.cancelled', (next) => {
    if (next !== 'run') return;
    harness.arm('create.played');
    harness.arm('undo.cancelled');
  });
  assert.equal(harness.armed('undo.cancelled'), false, 'the point is reached');
  assert.deepEqual(outcome.wrong, []);
  assert.equal(outcome.deaths, 2);
});

test('a running container keeps its pid while wherryd dies', async () => {
  const outcome = await harness.life('between', (next) => {
    const pid = harness.wherryd();
    if (next !== 'run' && pid !== undefined) process.kill(pid, 'SIGKILL');
  });
  assert.deepEqual(outcome.wrong, []);
});
