import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { endsWith } from '../../../src/daemon/unexpected.ts';

test('an unexpected error ends wherryd, the same one three times a minute at most', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-test-unexpected-'));
  try {
    const lines: string[] = [];
    const ends: number[] = [];
    // Each wherryd has one of its own.
    const strike = (reason: unknown) =>
      endsWith(folder, { error: (message) => lines.push(message) }, (status) => ends.push(status))(reason);
    for (let time = 0; time < 5; time++) strike(new Error('one'));
    assert.deepEqual(ends, [70, 70, 70]);
    assert.equal(lines.filter((line) => line.includes('again and again')).length, 2);
    strike('another');
    assert.equal(ends.length, 4);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
