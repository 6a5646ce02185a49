import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as flags from '../../../src/linux/process-flags.ts';
import { cValues } from './c-values.ts';

/** Younger than Debian 12's headers (Linux 6.9). */
const younger = { MPOL_WEIGHTED_INTERLEAVE: 6 };
/** Named in the kernel's headers only in a comment, or spelt differently. */
const spelt: Readonly<Record<string, string>> = { SCHED_OTHER: 'SCHED_NORMAL', SCHED_ISO: '4' };

describe('names of config.json', () => {
  const tables: [string[], Readonly<Record<string, number>>][] = [
    [['linux/sched.h'], { ...flags.schedulerPolicies, ...flags.schedulerFlags }],
    [['linux/ioprio.h'], flags.ioClasses],
    [['linux/mempolicy.h'], { ...flags.memoryModes, ...flags.memoryFlags }],
    [['sys/personality.h'], flags.personalityFlags],
  ];
  for (const [headers, table] of tables) {
    it(`have the values of ${headers[0]}`, () => {
      const entries = Object.entries(table).filter(([name]) => !Object.hasOwn(younger, name));
      const values = cValues(
        headers,
        entries.map(([name]) => spelt[name] ?? name),
      );
      assert.deepEqual(
        entries.map(([name, value]) => [name, BigInt(value)]),
        entries.map(([name], index) => [name, values[index]]),
      );
    });
  }
});

describe('lists of numbers', () => {
  it('are read as cpuset(7) has them', () => {
    assert.deepEqual(flags.parseNumberList('0-3,7', 64), [0, 1, 2, 3, 7]);
    assert.deepEqual(flags.parseNumberList(' 5 , 1-2', 64), [1, 2, 5]);
    assert.deepEqual(flags.parseNumberList('', 64), []);
    for (const wrong of ['x', '1-', '-1', '3-1', '64', '0-64', '1,,2', '1 2']) {
      assert.equal(flags.parseNumberList(wrong, 64), undefined, wrong);
    }
  });

  it('become bits in words of eight bytes', () => {
    assert.deepEqual([...flags.bitMask([0, 9])], [1, 2, 0, 0, 0, 0, 0, 0]);
    assert.equal(flags.bitMask([64]).length, 16);
    assert.equal(flags.bitMask([64])[8], 1);
    assert.equal(flags.bitMask([]).length, 8);
  });
});
