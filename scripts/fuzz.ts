/**
 * `npm run fuzz -- [--seconds 600] [--seed S]`: keel, with AddressSanitizer and UndefinedBehaviorSanitizer, against peers and a wherryd that
 * say anything (test/fuzz/keel.ts). Needs root. Exit code 1: it ended, or a sanitizer had something to say; the seed repeats it.
 */
import { parseArgs } from 'node:util';
import { fuzzKeel } from '../test/fuzz/keel.ts';
import { fail, say } from './tools.ts';

/** A keel for each part, so that what one seed left does not hide what the next would show. */
const PART = 60;
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
let left = Number(values.seconds);
let steps = 0;
for (let seed = Number(values.seed); left > 0; seed++, left -= PART) {
  try {
    const result = await fuzzKeel(Math.min(left, PART), seed);
    steps += result.steps;
    say(`seed ${seed}: ${result.steps} steps, ${result.links} new links`);
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error));
  }
}
say(`${steps} steps, nothing found`);
