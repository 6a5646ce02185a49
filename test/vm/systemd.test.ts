/** The systemd driver: systemd and the kernel are asked what became of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { must, run } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const unified = '/sys/fs/cgroup';
const timeout = 90_000;

describe('the systemd cgroup driver', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const bundle = (
    id: string,
    args: string[],
    cgroupsPath: string,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<string> =>
    makeBundle(wherry.folder, id, args, (config) => {
      config.linux['cgroupsPath'] = cgroupsPath;
      edit(config);
    });
  const shown = async (unit: string, ...names: string[]): Promise<Record<string, string>> => {
    const { stdout } = await must('systemctl', ['show', unit, '-p', names.join(',')], { timeout });
    return Object.fromEntries(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split('=', 2) as [string, string]),
    );
  };
  const create = async (id: string, path: string): Promise<number> => {
    const result = await wherry.run(['--systemd-cgroup', 'create', '-b', path, id], {
      outputFile: join(path, 'out'),
      timeout,
    });
    assert.equal(result.code, 0, `${readFileSync(join(path, 'out'), 'utf8')}\n${wherry.log()}`);
    return (JSON.parse(await wherry.must(['state', id], { timeout })) as { pid: number }).pid;
  };

  test('a scope in the slice that is asked for, with the limits and properties of the container', async () => {
    const id = uniqueId('scope');
    const unit = `wherry-${id}.scope`;
    const path = await bundle(id, ['/bin/sleep', '1000'], `test-inner.slice:wherry:${id}`, (config) => {
      config.linux.resources = {
        memory: { limit: 64 << 20 },
        cpu: { shares: 512, quota: 50_000, period: 100_000 },
        pids: { limit: 17 },
      };
      config['annotations'] = {
        'org.systemd.property.TimeoutStopUSec': 'uint64 7000000',
        'org.systemd.property.CollectMode': "'inactive-or-failed'",
      };
    });
    const pid = await create(id, path);
    const cgroup = `/test.slice/test-inner.slice/${unit}`;
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::${cgroup}\n`);
    const file = (name: string): string => readFileSync(join(unified, cgroup, name), 'utf8').trim();
    assert.deepEqual(
      await shown(
        unit,
        'ActiveState',
        'ControlGroup',
        'MemoryMax',
        'TasksMax',
        'CPUWeight',
        'CPUQuotaPerSecUSec',
        'Delegate',
        'TimeoutStopUSec',
        'CollectMode',
      ),
      {
        ActiveState: 'active',
        ControlGroup: cgroup,
        MemoryMax: '67108864',
        TasksMax: '17',
        CPUWeight: '59',
        CPUQuotaPerSecUSec: '500ms',
        Delegate: 'yes',
        TimeoutStopUSec: '7s',
        CollectMode: 'inactive-or-failed',
      },
    );
    assert.deepEqual(['memory.max', 'pids.max', 'cpu.weight', 'cpu.max'].map(file), [
      '67108864',
      '17',
      '59',
      '50000 100000',
    ]);
    assert.deepEqual(file('cgroup.procs').split('\n'), [String(pid)], 'nobody else is left in it');

    // systemd must not undo what we wrote.
    await must('systemctl', ['daemon-reload'], { timeout });
    assert.deepEqual(['memory.max', 'pids.max', 'cpu.max'].map(file), ['67108864', '17', '50000 100000']);

    await wherry.must(['start', id], { timeout });
    await wherry.must(['delete', '--force', id], { timeout });
    assert.equal(existsSync(join(unified, cgroup)), false);
    assert.equal((await shown(unit, 'LoadState'))['LoadState'], 'not-found');
  });

  test('without a path: a scope in system.slice; the same name again once it is gone', async () => {
    const id = uniqueId('again');
    for (let round = 0; round < 2; round++) {
      const path = await bundle(
        `${id}-${round}`,
        ['/bin/sh', '-c', 'cat /proc/self/cgroup; exit 3'],
        '',
        (config) => {
          config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'cgroup');
        },
      );
      const result = await wherry.run(['--systemd-cgroup', 'run', '-b', path, id], { timeout });
      assert.deepEqual(
        [result.code, result.stdout],
        [3, `0::/system.slice/wherry-${id}.scope\n`],
        result.stderr,
      );
    }
  });

  test('device rules hold in a scope as well, also after systemd has read its files again', async () => {
    const id = uniqueId('devices');
    const path = await bundle(id, ['/bin/sleep', '1000'], '', (config) => {
      const capabilities = config.process['capabilities'] as Record<string, string[]>;
      for (const set of ['bounding', 'effective', 'permitted'])
        capabilities[set]?.push('CAP_MKNOD', 'CAP_SYS_RAWIO');
      config.root.readonly = false;
      config.linux.resources = { devices: [{ allow: false, access: 'rwm' }] };
    });
    await create(id, path);
    await wherry.must(['start', id], { timeout });
    await must('systemctl', ['daemon-reload'], { timeout });
    await wherry.must(['exec', id, '/bin/mknod', '/dev/mem', 'c', '1', '1'], { timeout });
    const denied = await wherry.run(['exec', id, '/bin/head', '-c', '1', '/dev/mem'], { timeout });
    assert.notEqual(denied.code, 0);
    assert.match(denied.stderr, /Operation not permitted/);
    assert.equal((await wherry.run(['exec', id, '/bin/head', '-c', '1', '/dev/zero'], { timeout })).code, 0);
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('what cannot be is said, and leaves no unit', async () => {
    const id = uniqueId('bad');
    const path = await bundle(id, ['/bin/true'], '/a/path');
    const form = await wherry.run(['--systemd-cgroup', 'run', '-b', path, id], { timeout });
    assert.notEqual(form.code, 0);
    assert.match(form.stderr, /slice:prefix:name/);

    const other = uniqueId('property');
    const property = await bundle(other, ['/bin/true'], '', (config) => {
      config['annotations'] = { 'org.systemd.property.NoSuchProperty': 'true' };
    });
    const refused = await wherry.run(['--systemd-cgroup', 'run', '-b', property, other], { timeout });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /NoSuchProperty/);
    const units = await run('systemctl', ['list-units', '--all', '--no-legend', `wherry-${other}.scope`], {
      timeout,
    });
    assert.equal(units.stdout.trim(), '');
  });
});
