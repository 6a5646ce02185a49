/** State directories: what a claim that fails leaves. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { StateStore } from '../../../src/container/store.ts';
import { temporaryFolder } from '../../support/paths.ts';

describe('a state directory elsewhere', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder();
  });
  after(() => rmSync(folder, { recursive: true }));
  const key = { scope: '', namespace: 'default', id: 'one' };

  it('is not left when its link cannot be made', () => {
    const dir = join(folder, 'states/one');
    mkdirSync(join(folder, 'containers/local'), { recursive: true });
    writeFileSync(join(folder, 'containers/local/default'), 'in the way');
    assert.throws(() => new StateStore(folder).claim(dir, key), /cannot make the state directory/);
    assert.equal(existsSync(dir), false);
  });

  it("is another container's where it is there already, and stays", () => {
    const dir = join(folder, 'states/other');
    mkdirSync(dir, { recursive: true });
    assert.throws(() => new StateStore(folder).claim(dir, key), /already exists/);
    assert.equal(existsSync(dir), true);
  });
});
