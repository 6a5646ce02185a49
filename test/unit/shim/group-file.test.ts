import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { GroupFile, type GroupRecord, type Member } from '../../../shim/bootstrap/group-file.ts';
import { recordingLog } from './support/world.ts';

const record = (group: string, members: [string, Member][] = [[group, 'pending']]): GroupRecord => ({
  listenerId: 7n,
  socketPath: `/s/${group}`,
  scope: '/c.sock',
  namespace: 'ns',
  group,
  ttrpcAddress: '/c.sock.ttrpc',
  members: new Map(members),
  shutdown: false,
});
const nameOf = ({ group }: GroupRecord): string => group;

describe('the file of groups', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'wherry-groups-'));
    path = join(folder, 'run', 'sockets');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const read = (boot = 1n) => {
    const file = new GroupFile(path, boot);
    const log = recordingLog();
    return { file, log, records: file.load(log, nameOf) };
  };

  it('gives back what was saved last, and not what was removed', () => {
    const { file } = read();
    for (const name of ['a', 'b', 'c']) file.save(name, record(name));
    file.save('a', { ...record('a', [['a', 'joined']]), shutdown: true, drainMs: 2000, schedCore: true });
    file.remove('b');
    assert.deepEqual(read().records, [
      { ...record('a', [['a', 'joined']]), shutdown: true, drainMs: 2000, schedCore: true, boot: '1' },
      { ...record('c'), boot: '1' },
    ]);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('is written in place: a place that is left is taken again, also by the next process', () => {
    const { file } = read();
    for (const name of ['a', 'b', 'c']) file.save(name, record(name));
    const { size } = statSync(path);
    file.remove('b');
    file.save('d', record('d'));
    file.remove('a');
    read().file.save('e', record('e'));
    assert.equal(statSync(path).size, size);
    assert.deepEqual(read().records.map(nameOf), ['e', 'd', 'c']);
  });

  it('no line lies on two pages: the death of the writer cannot tear it', () => {
    const { file } = read();
    const large = (name: string, members: number) =>
      record(
        name,
        Array.from({ length: members }, (_, index) => [`${name}-${index}-${'m'.repeat(60)}`, 'joined']),
      );
    for (const [index, members] of [1, 20, 1, 1, 25, 40, 1, 18].entries())
      file.save(`g${index}`, large(`g${index}`, members));
    file.save('g2', large('g2', 30));
    file.save('g8', large('g8', 1));
    let at = 0;
    for (const line of readFileSync(path, 'latin1').split(/(?<=\n)/)) {
      assert.equal(Math.floor(at / 4096), Math.floor((at + line.length - 1) / 4096), `${at}+${line.length}`);
      at += line.length;
    }
    assert.equal(read().records.length, 9);
  });

  it('moves a group that has grown', () => {
    const { file } = read();
    file.save('pod', record('pod'));
    file.save('box', record('box'));
    const many = Array.from({ length: 100 }, (_, index): [string, Member] => [`member-${index}`, 'joined']);
    file.save('pod', record('pod', many));
    file.save('next', record('next'));
    assert.deepEqual(
      new Map(read().records.map(({ group, members }) => [group, members.size])),
      new Map([
        ['next', 1],
        ['box', 1],
        ['pod', 100],
      ]),
    );
  });

  it('forgets groups of another keel and lines that cannot be read', () => {
    const { file } = read();
    file.save('a', record('a'));
    appendFileSync(path, '{"boot":"1","list');
    const again = read();
    assert.deepEqual(again.records.map(nameOf), ['a']);
    assert.deepEqual(
      again.log.lines.map(({ level }) => level),
      ['warn'],
    );
    assert.deepEqual(read(2n).records, []);
    assert.equal(readFileSync(path, 'utf8').trim(), '');
  });
});
