/** A running container on cgroup v2: frozen, changed, entered, measured, and stopped by its limits. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const timeout = 90_000;

describe('a running container on cgroup v2', () => {
  let wherry: Wherry;
  let id: string;
  let cgroup: string;
  before(async () => {
    wherry = new Wherry();
    id = uniqueId('running');
    cgroup = `/sys/fs/cgroup/wherry-tests/${id}`;
    const loop = 'while :; do sleep 1; done';
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', loop], (config) => {
      config.linux['cgroupsPath'] = `/wherry-tests/${id}`;
      config.linux.resources = { memory: { limit: 64 << 20 }, pids: { limit: 30 } };
    });
    await wherry.must(['create', '-b', bundle, id], { outputFile: join(bundle, 'out'), timeout });
    await must('start', id);
  });
  after(async () => {
    await wherry?.run(['delete', '--force', id], { timeout });
    await wherry?.[Symbol.asyncDispose]();
  });

  const must = (...args: string[]): Promise<string> => wherry.must(args, { timeout });
  const file = (name: string): string => readFileSync(join(cgroup, name), 'utf8').trim();
  const status = async (): Promise<string> =>
    (JSON.parse(await must('state', id)) as { status: string }).status;

  test('pause and resume are cgroup.freeze', async () => {
    await must('pause', id);
    assert.equal(file('cgroup.freeze'), '1');
    assert.match(file('cgroup.events'), /frozen 1/);
    assert.equal(await status(), 'paused');
    await must('resume', id);
    assert.match(file('cgroup.events'), /frozen 0/);
    assert.equal(await status(), 'running');
  });

  test('update writes the new limits', async () => {
    await must(
      'update',
      '--memory',
      String(80 << 20),
      '--pids-limit',
      '25',
      '--cpu-quota',
      '20000',
      '--cpu-period',
      '100000',
      id,
    );
    assert.deepEqual(['memory.max', 'pids.max', 'cpu.max'].map(file), [
      String(80 << 20),
      '25',
      '20000 100000',
    ]);
  });

  test('exec is born in the same cgroup and sees it as the root', async () => {
    assert.equal(await must('exec', id, '/bin/cat', '/proc/self/cgroup'), '0::/\n');
  });

  test('events --stats: numbers of the cgroup', async () => {
    const { data } = JSON.parse(await must('events', '--stats', id)) as {
      data: { memory: { usage: { limit: number; usage: number } }; pids: { current: number; limit: number } };
    };
    assert.equal(data.memory.usage.limit, Number(file('memory.max')));
    assert.ok(data.memory.usage.usage > 0);
    assert.equal(data.pids.limit, Number(file('pids.max')));
    assert.ok(data.pids.current >= 1);
  });

  test('processes end at pids.max', async () => {
    const bomb = 'for n in $(seq 60); do sleep 30 & done; wait';
    await wherry.run(['exec', '--detach', id, '/bin/sh', '-c', bomb], {
      timeout,
      outputFile: join(wherry.folder, 'bomb'),
    });
    await eventually(
      'a fork was refused',
      () => /^max [1-9]/m.test(file('pids.events')) || undefined,
      timeout,
    );
    assert.ok(Number(file('pids.current')) <= Number(file('pids.max')));
  });
});
