import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CgroupFiles, DescriptorBudget } from '../../../src/cgroup/files.ts';

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
    const first = new CgroupFiles(folder, budget);
    const read = (files: CgroupFiles, name: string) => {
      const text = files.text(name);
      return text?.bytes.toString('latin1', 0, text.length);
    };
    for (let round = 0; round < 2; round++)
      for (const name of ['a', 'b', 'c']) assert.equal(read(first, name), `${name}\n`);
    assert.equal(open(), 2);
    const second = new CgroupFiles(folder, budget);
    assert.equal(read(second, 'c'), 'c\n');
    assert.equal(open(), 2);
    first.close();
    assert.equal(open(), 0);
    assert.equal(read(second, 'c'), 'c\n');
    assert.equal(open(), 1);
    second.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
