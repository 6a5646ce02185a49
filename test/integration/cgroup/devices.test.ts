/** Device rules of a running container changed: by v1's files or v2's program, and never a moment in which the old and the new fail. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;
const host = detectCgroups();
const closed = [{ allow: false, access: 'rwm' }];
const readable = [...closed, { allow: true, type: 'c', major: 1, minor: 11, access: 'r' }];

describe('device rules of a running container', () => {
  let wherry: Wherry;
  let id: string;
  let rootfs: string;
  before(async () => {
    wherry = new Wherry();
    id = uniqueId('devices');
    // Without pause: a usual device must open every time, and one that is never allowed must not once.
    const script = `mknod /k c 1 11 && mknod /z c 1 5 && touch /ready; while :; do
      true < /z || echo lost >> /lost; true > /k && echo got >> /got; echo > /round; done 2> /dev/null`;
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      const capabilities = config.process['capabilities'] as Record<string, string[]>;
      for (const set of ['bounding', 'effective', 'permitted'])
        capabilities[set]?.push('CAP_MKNOD', 'CAP_SYSLOG', 'CAP_SYS_ADMIN');
      config.root.readonly = false;
      config.linux['cgroupsPath'] = `/${id}`;
      config.linux.resources = { devices: closed };
    });
    rootfs = join(bundle, 'rootfs');
    await wherry.must(['create', '-b', bundle, id], { outputFile: join(bundle, 'out'), timeout });
    await wherry.must(['start', id], { timeout });
    await eventually('it has its devices', () => existsSync(join(rootfs, 'ready')) || undefined, timeout);
  });
  after(async () => {
    await wherry?.run(['delete', '--force', id], { timeout });
    await wherry?.[Symbol.asyncDispose]();
  });

  const update = (resources: object) =>
    wherry.must(['update', '-r', '-', id], { timeout, input: JSON.stringify(resources) });
  const opens = async () =>
    (await wherry.run(['exec', id, '/bin/sh', '-c', 'exec 3< /k'], { timeout })).code === 0;

  test('a device is opened to it and closed again, and the rest stays as it was all the time', async () => {
    for (let round = 0; round < 5; round++) {
      await update({ devices: readable });
      if (round === 0) assert.equal(await opens(), true);
      await update({ devices: closed });
      if (round === 0) assert.equal(await opens(), false);
    }
    // It is written anew by the next round.
    rmSync(join(rootfs, 'round'), { force: true });
    await eventually('it has gone on', () => existsSync(join(rootfs, 'round')) || undefined, timeout);
    assert.equal(existsSync(join(rootfs, 'lost')), false, 'a usual device could not be opened for a moment');
    assert.equal(existsSync(join(rootfs, 'got')), false, 'a device could be written to for a moment');
  });

  test('to everything and back', async () => {
    await update({ devices: [{ allow: true, access: 'rwm' }] });
    assert.equal(await opens(), true);
    await update({ devices: closed });
    assert.equal(await opens(), false);
  });

  test('a limit that is refused leaves the rules alone', async () => {
    const bad = JSON.stringify({ devices: readable, cpu: { cpus: '999' } });
    assert.notEqual((await wherry.run(['update', '-r', '-', id], { timeout, input: bad })).code, 0);
    assert.equal(await opens(), false);
  });

  test('rules that are no others do not close what a hook has opened', {
    skip: host.mode === 'v2',
  }, async () => {
    const folder = host.hierarchies.find(({ controllers }) => controllers.includes('devices'))?.mountPoint;
    writeFileSync(`${folder}/${id}/devices.allow`, 'c 1:11 r');
    await update({ devices: closed, pids: { limit: 100 } });
    assert.match(readFileSync(`${folder}/${id}/devices.list`, 'utf8'), /^c 1:11 r$/m);
    await update({ devices: readable });
    await update({ devices: closed });
    assert.doesNotMatch(readFileSync(`${folder}/${id}/devices.list`, 'utf8'), /^c 1:11 r$/m);
  });
});
