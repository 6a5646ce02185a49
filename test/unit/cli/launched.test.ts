import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { DetachKeys, detachKeys } from '../../../src/cli/commands/attach.ts';
import { completionFor, shells } from '../../../src/cli/completion.ts';
import { decode, type LogRecord, LogStore, lastLines } from '../../../src/cli/launched/log-store.ts';
import { manPages } from '../../../src/cli/man.ts';
import { lookUpUser } from '../../../src/container/users.ts';
import { WherryError } from '../../../src/errors.ts';

describe('the log of a detached container', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'wherry-unit-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  const collect = async (store: LogStore, tail?: number): Promise<string> => {
    const records: LogRecord[] = [];
    (await store.follow(tail, (record) => records.push(record)))();
    return records.map(({ bytes }) => bytes.toString('latin1')).join('');
  };

  it('gives back every byte, lines that are not ended and bytes that are no text included', async () => {
    const path = join(folder, 'bytes');
    const store = new LogStore(path, assert.fail);
    const bytes = Buffer.from([...'one\n'].map((c) => c.charCodeAt(0)).concat(0, 255, 10, 10, 120));
    await store.append('stdout', bytes);
    await store.append('stdout', Buffer.from('y\n'));
    assert.equal(await collect(store), `${bytes.toString('latin1')}y\n`);
    assert.equal(await collect(new LogStore(path, assert.fail)), `${bytes.toString('latin1')}y\n`);
    assert.equal(await collect(store, 1), 'xy\n');
    assert.equal(await collect(store, 0), '');
    assert.match(readFileSync(path, 'latin1').split('\n')[0]!, /^\d{4}-\S+Z stdout F one$/);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('is bounded: the older half goes', async () => {
    const path = join(folder, 'bounded');
    const store = new LogStore(path, assert.fail, 1000);
    for (let line = 0; line < 100; line += 1) await store.append('stderr', Buffer.from(`line ${line}\n`));
    const kept = await collect(store);
    assert.ok(kept.endsWith('line 98\nline 99\n') && !kept.includes('line 0\n'));
    assert.ok(statSync(path).size + statSync(`${path}.1`).size <= 2000);
    await store.remove();
    assert.equal(await collect(store), '');
  });

  it('a follower gets what is kept and what comes, once', async () => {
    const store = new LogStore(join(folder, 'follow'), assert.fail);
    const seen: string[] = [];
    void store.append('stdout', Buffer.from('a\n'));
    const following = store.follow(undefined, ({ bytes }) => seen.push(bytes.toString()));
    void store.append('stdout', Buffer.from('b\n'));
    const stop = await following;
    await store.append('stdout', Buffer.from('c\n'));
    stop();
    await store.append('stdout', Buffer.from('d\n'));
    assert.deepEqual(seen, ['a\n', 'b\n', 'c\n']);
  });

  it('passes over torn and foreign lines', () => {
    const file = Buffer.from('nonsense\n2026-01-01T00:00:00Z stdout F good\n2026-01-01T00:00:00Z std');
    assert.deepEqual(
      decode(file).map(({ bytes }) => bytes.toString()),
      ['good\n'],
    );
  });

  it('counts a line that goes on once', () => {
    const record = (text: string): LogRecord => ({ time: '', stream: 'stdout', bytes: Buffer.from(text) });
    const records = ['a\n', 'b', 'b\n', 'c'].map(record);
    const texts = (count: number) => lastLines(records, count).map(({ bytes }) => bytes.toString());
    assert.deepEqual([texts(1), texts(2), texts(9)], [['c'], ['b', 'b\n', 'c'], ['a\n', 'b', 'b\n', 'c']]);
  });
});

describe('keys that detach', () => {
  it('are read as docker reads them', () => {
    assert.deepEqual([...detachKeys('ctrl-p,ctrl-q')], [16, 17]);
    assert.deepEqual([...detachKeys('ctrl-a,b,ctrl-[')], [1, 98, 27]);
    for (const bad of ['', 'ab', 'ctrl-', 'ctrl-1', 'x,,y'])
      assert.throws(
        () => detachKeys(bad),
        (error) => error instanceof WherryError && error.details.path === '--detach-keys',
      );
  });

  it('are found across reads; what only begins like them goes on', () => {
    const watch = new DetachKeys(Buffer.of(16, 17));
    assert.deepEqual(watch.take(Buffer.of(1, 16)), { rest: Buffer.of(1), detached: false });
    assert.deepEqual(watch.take(Buffer.of(2)), { rest: Buffer.of(16, 2), detached: false });
    assert.deepEqual(watch.take(Buffer.of(16)), { rest: Buffer.of(), detached: false });
    assert.deepEqual(watch.take(Buffer.of(16, 17, 3)), { rest: Buffer.of(16), detached: true });
  });
});

describe('completion', () => {
  for (const shell of shells) {
    it(`for ${shell} has every command and its flags`, () => {
      const script = completionFor(shell);
      for (const word of ['launch', 'logs', 'detach-keys', 'pid-file', 'status'])
        assert.ok(script.includes(word), word);
    });
  }
  it('there is none for other shells', () => {
    assert.throws(() => completionFor('csh'), /no completion for the shell "csh"/);
  });
});

describe('users by name', () => {
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'wherry-unit-'));
    writeFileSync(join(root, 'passwd'), '');
  });
  after(() => rmSync(root, { recursive: true }));
  it('numbers need no file; bad texts name the flag', async () => {
    assert.deepEqual(await lookUpUser(root, '5:6', '--user'), { uid: 5, gid: 6 });
    assert.deepEqual(await lookUpUser(root, '5', '--user'), { uid: 5, gid: 0 });
    for (const bad of [':', 'a:', ':b', '1:2:3', '4294967295', 'nobody-here'])
      await assert.rejects(
        lookUpUser(root, bad, '--user'),
        (error) => error instanceof WherryError && error.details.path === '--user',
      );
  });
});

describe('manual pages', () => {
  const pages = manPages('0.0.0');
  it('there is one for every command, and each begins as man(7) says', () => {
    for (const name of ['wherry.1', 'wherry-run.1', 'wherry-daemon-stop.1', 'wherry-logs.1'])
      assert.ok(pages.has(name), name);
    for (const [name, text] of pages) {
      assert.match(text, /^\.TH WHERRY\S* 1 .*\n\.SH NAME\n/, name);
      assert.ok(!/^[.'](?!TH|SH|TP|B |BR |I )/m.test(text), `${name} has an unknown request`);
    }
  });
});
