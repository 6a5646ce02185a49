import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CgroupFile, DescriptorBudget } from '../../../src/cgroup/files.ts';

test('beyond the budget files are read and closed; what is closed may be used by others', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-test-files-'));
  try {
    for (const name of ['a', 'b', 'c']) writeFileSync(join(folder, name), `${name}\n`);
    const open = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
        } catch {
          return false;
        }
      }).length;
    const budget = new DescriptorBudget(() => 2);
    const files = () => ['a', 'b', 'c'].map((name) => new CgroupFile(join(folder, name), budget));
    const first = files();
    const read = (file: CgroupFile | undefined) => {
      const text = file?.text();
      return text?.bytes.toString('latin1', 0, text.length);
    };
    for (let round = 0; round < 2; round++)
      for (const [index, name] of ['a', 'b', 'c'].entries()) assert.equal(read(first[index]), `${name}\n`);
    assert.equal(open(), 2);
    const [, , second] = files();
    assert.equal(read(second), 'c\n');
    assert.equal(open(), 2);
    for (const file of first) file.close();
    assert.equal(open(), 0);
    assert.equal(read(second), 'c\n');
    assert.equal(open(), 1);
    second?.close();
    second?.close();
    assert.equal(open(), 0);
    assert.equal(budget.take() && budget.take(), true);
    assert.equal(budget.take(), false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a file that is missing is found after some more readings', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wherry-test-files-'));
  try {
    const path = join(folder, 'memory.peak');
    const file = new CgroupFile(path);
    assert.equal(file.text(), undefined);
    writeFileSync(path, '1\n');
    const readings = Array.from({ length: 20 }, () => file.text()?.length);
    assert.equal(readings[0], undefined, 'not looked for each time');
    assert.equal(readings.at(-1), 2);
    file.close();
    rmSync(path);
    assert.equal(file.text(), undefined);
    file.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
