/** Half a minute of `npm run fuzz`; a seed of the day, which a failure names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzKeel } from '../../fuzz/keel.ts';

const SECONDS = 30;

test('keel takes anything that peers and wherryd say', { timeout: 180_000 }, async () => {
  const seed = Math.floor(Date.now() / 86_400_000);
  const { steps } = await fuzzKeel(SECONDS, seed);
  assert.ok(steps > 0);
});
