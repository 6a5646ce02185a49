import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { build, expectedSlots, OUTPUTS, programs, quietPrograms } from '../../unit/tape/random-program.ts';
import { Build, play } from './player.ts';
import '../../support/property-seed.ts';

const binaries = new Build();
after(() => binaries.remove());

test('random programs do what they say', async () => {
  await fc.assert(
    fc.asyncProperty(programs, async (program) => {
      const { page, error, waitStatus } = await play(binaries.player, build(program).assemble());
      assert.equal(error, undefined);
      assert.equal(waitStatus, 0);
      assert.deepEqual(page.slots.slice(0, OUTPUTS), expectedSlots(program));
    }),
    { numRuns: 150 },
  );
});

test('the loader accepts every tape that is built, and survives every damage', () => {
  const fuzzer = binaries.fuzzer();
  const files = fc.sample(quietPrograms, { numRuns: 40, seed: 1 }).map((program, index) => {
    const path = join(binaries.folder, `seed-${index}`);
    writeFileSync(path, build(program).assemble().image);
    return path;
  });
  const withPointers = fc.sample(programs, { numRuns: 10, seed: 2 }).map((program, index) => {
    const tape = build(program);
    tape.syscall('execve', [
      '/x',
      tape.pointers([tape.cstr('a'), null, tape.cstr('b')]),
      tape.pointers([null]),
    ]);
    const path = join(binaries.folder, `pointers-${index}`);
    writeFileSync(path, tape.assemble().image);
    return path;
  });
  const run = (rounds: number) =>
    execFileSync(fuzzer, [String(rounds), '7', ...files, ...withPointers], { encoding: 'utf8' });
  assert.match(run(0), /^refused 0 accepted 50 played 40\n$/);
  const counts = run(2000).match(/^refused (\d+) accepted (\d+) played (\d+)\n$/);
  assert.ok(counts !== null);
  for (const count of counts.slice(1)) assert.ok(Number(count) > 1000, counts[0]);
});
