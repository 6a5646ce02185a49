/** Whole lives in which something befalls wherryd between two of its steps: a sample of what `npm run fault -- --points all` does at each of them. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FaultHarness } from '../fault/harness.ts';
import { atStep, countSteps, type Way } from '../fault/steps.ts';

/** Evenly spread, of hundreds. */
const KILLS = 5;
/** Where something went wrong before, and one of each kind of step. Boundaries shift a little from life to life, so these are near the name. */
const THROWS = [
  'address written',
  'folder made',
  'create.saved',
  'ordered SPAWN',
  'event written started',
  'pause.frozen',
  'answer Resume',
];
const OTHERS: readonly (readonly [Way, string])[] = [
  ['kill-twice', 'event written deleted'],
  ['memory', 'exec.begun'],
  ['descriptors', 'create.played'],
  ['descriptors', 'pause.begun'],
];

let harness: FaultHarness;
let steps: string[];

before(async () => {
  harness = await FaultHarness.start('2.1');
  steps = await countSteps(harness);
  assert.ok(steps.length > 300, `${steps.length} boundaries`);
});
after(() => harness?.[Symbol.asyncDispose]());

function numberOf(name: string): number {
  const index = steps.indexOf(name);
  assert.ok(index >= 0, `no boundary is called ${name}: ${[...new Set(steps)].join(', ')}`);
  return index + 1;
}

async function check(way: Way, n: number): Promise<void> {
  const { wrong, reached, point } = await atStep(harness, n, way);
  assert.deepEqual(wrong, [], `${point}\n${harness.containerd.tail()}`);
  assert.ok(reached, point);
}

for (let index = 0; index < KILLS; index++)
  test(`killed in part ${index + 1} of ${KILLS}`, () =>
    check('kill', Math.floor(((index + 0.5) * steps.length) / KILLS)));
for (const name of THROWS) test(`an error near ${name}`, () => check('throw', numberOf(name)));
for (const [way, name] of OTHERS) test(`${way}, near ${name}`, () => check(way, numberOf(name)));
