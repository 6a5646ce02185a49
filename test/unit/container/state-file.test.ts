/** state.json as bytes: what changes is overwritten in one page, what stays lies behind it. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { nothingWritten, readState, writeState } from '../../../src/container/state-file.ts';
import { temporaryFolder } from '../../support/paths.ts';

describe('the state file', () => {
  let folder: string;
  let path: string;
  before(() => {
    folder = temporaryFolder();
    path = join(folder, 'state.json');
  });
  after(() => rmSync(folder, { recursive: true }));

  const save = (state: object, lasting: string, place = nothingWritten) =>
    writeState(path, (where) => ({ ...state, ...(where && { lasting: where }) }), lasting, place, 'test');
  const load = () => {
    const { state, place } = readState(path);
    const { lasting, ...rest } = state;
    return { rest, place };
  };

  it('reads back what was written, with what stays and without', () => {
    let place = save({ status: 'creating' }, '');
    assert.deepEqual(load(), { rest: { status: 'creating' }, place });
    const long = `${'é\n"'.repeat(3000)}end`;
    place = save({ status: 'created' }, long, place);
    assert.deepEqual(load(), { rest: { status: 'created' }, place });
    assert.equal(place.lasting, long);
  });

  it('a change of the state writes the first page and nothing else', () => {
    rmSync(path);
    const long = 'x'.repeat(10_000);
    const place = save({ n: 2 }, long, save({ n: 1 }, ''));
    const first = readFileSync(path);
    const next = save({ n: 3, more: 'y'.repeat(400) }, long, place);
    assert.deepEqual(next, place);
    const second = readFileSync(path);
    assert.equal(second.length, first.length);
    assert.ok(second.subarray(4096).equals(first.subarray(4096)));
    assert.equal(place.room, 4096);
    assert.deepEqual(load(), { rest: { n: 3, more: 'y'.repeat(400) }, place });
  });

  it('a state that outgrows its room leaves what the old one names alone until it is there', () => {
    rmSync(path);
    const place = save({ n: 2 }, 'lasting', save({ n: 1 }, ''));
    const old = readFileSync(path);
    const state = { n: 3, big: 'z'.repeat(5000) };
    const next = save(state, 'lasting', place);
    assert.deepEqual(load(), { rest: state, place: next });
    assert.ok(next.room >= place.end, 'behind all that the old line names');
    // As a death between the two writes would leave it: the old line, and the file with what stays twice.
    const now = readFileSync(path);
    writeFileSync(path, Buffer.concat([old, now.subarray(old.length)]));
    assert.deepEqual([load().rest, load().place.lasting], [{ n: 2 }, 'lasting']);
    // And back to a short one.
    assert.deepEqual(save({ n: 4 }, 'lasting', next), next);
    assert.deepEqual(load(), { rest: { n: 4 }, place: next });
  });

  it('reads a file without a second part, as earlier versions wrote it', () => {
    writeFileSync(path, `{"status":"running"}${' '.repeat(100)}`);
    const { rest, place } = load();
    assert.deepEqual(rest, { status: 'running' });
    const next = save({ status: 'stopped' }, 'new', place);
    assert.deepEqual(load(), { rest: { status: 'stopped' }, place: next });
  });

  it('an empty or damaged file is refused', () => {
    for (const text of ['', '   ', '{"a":']) {
      writeFileSync(path, text);
      assert.throws(load, SyntaxError);
    }
  });
});
