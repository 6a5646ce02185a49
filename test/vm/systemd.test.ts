/** The systemd driver: systemd and the kernel are asked what became of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, must, run } from '../support/run.ts';
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

  test('systemd has the same rules: its list names what our program allows', async () => {
    const id = uniqueId('list');
    const path = await bundle(id, ['/bin/sleep', '1000'], '', (config) => {
      const capabilities = config.process['capabilities'] as Record<string, string[]>;
      for (const set of ['bounding', 'effective', 'permitted'])
        capabilities[set]?.push('CAP_MKNOD', 'CAP_SYSLOG');
      config.root.readonly = false;
      config.linux.resources = {
        devices: [
          { allow: false, access: 'rwm' },
          { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
          { allow: true, type: 'b', major: 254, access: 'r' },
        ],
      };
    });
    await create(id, path);
    const { DevicePolicy, DeviceAllow } = await shown(`wherry-${id}.scope`, 'DevicePolicy', 'DeviceAllow');
    assert.equal(DevicePolicy, 'strict');
    const { stdout } = await must('systemctl', ['show', `wherry-${id}.scope`, '-p', 'DeviceAllow'], {
      timeout,
    });
    const list = stdout.trim().split('\n').join(' ');
    for (const wanted of [
      '/dev/char/10:229 rwm',
      'block-254 rm',
      'char-* m',
      'block-* m',
      'char-136 rwm',
      '/dev/char/1:3 rwm',
    ])
      assert.ok(list.includes(wanted), `${wanted} in ${list}, ${DeviceAllow}`);
    // New rules reach systemd too, and hold when it has written its own.
    await wherry.must(['start', id], { timeout });
    const openable = async (): Promise<boolean> =>
      (await wherry.run(['exec', id, '/bin/head', '-c', '1', '/dev/zero'], { timeout })).code === 0 &&
      (await wherry.run(['exec', id, '/bin/head', '-c', '0', '/tmp/kmsg'], { timeout })).code === 0;
    await wherry.must(['exec', id, '/bin/mknod', '/tmp/kmsg', 'c', '1', '11'], { timeout });
    assert.equal(await openable(), false);
    const devices = [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 1, minor: 11, access: 'r' },
    ];
    await wherry.must(['update', '-r', '-', id], { input: JSON.stringify({ devices }), timeout });
    assert.equal(await openable(), true);
    const after = await must('systemctl', ['show', `wherry-${id}.scope`, '-p', 'DeviceAllow'], { timeout });
    assert.match(after.stdout, /\/dev\/char\/1:11 rm/);
    assert.doesNotMatch(after.stdout, /10:229/);
    await must('systemctl', ['daemon-reload'], { timeout });
    assert.equal(await openable(), true);
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('an update reaches the files exactly, and systemd, which writes its own again at a reload', async () => {
    const id = uniqueId('update');
    const unit = `wherry-${id}.scope`;
    const path = await bundle(id, ['/bin/sleep', '1000'], '', (config) => {
      config.linux.resources = { memory: { limit: 64 << 20 }, unified: { 'memory.high': String(60 << 20) } };
    });
    await create(id, path);
    const file = (name: string): string =>
      readFileSync(join(unified, 'system.slice', unit, name), 'utf8').trim();
    const resources = {
      memory: { reservation: 16 << 20, swap: 96 << 20 },
      cpu: { shares: 2048, quota: 50_001, period: 100_000, cpus: '0', mems: '0' },
      pids: { limit: 33 },
    };
    await wherry.must(['update', '-r', '-', id], { input: JSON.stringify(resources), timeout });
    assert.equal(file('cpu.max'), '50001 100000');
    const names = [
      'memory.max',
      'memory.high',
      'memory.low',
      'memory.swap.max',
      'cpu.weight',
      'pids.max',
      'cpuset.cpus',
    ];
    const values = ['67108864', '62914560', '16777216', '33554432', '174', '33', '0'];
    assert.deepEqual(names.map(file), values);
    assert.deepEqual(
      await shown(
        unit,
        'MemoryMax',
        'MemoryHigh',
        'MemoryLow',
        'MemorySwapMax',
        'CPUQuotaPerSecUSec',
        'TasksMax',
        'AllowedCPUs',
      ),
      {
        ...{
          MemoryMax: '67108864',
          MemoryHigh: '62914560',
          MemoryLow: '16777216',
          MemorySwapMax: '33554432',
        },
        ...{ CPUQuotaPerSecUSec: '510ms', TasksMax: '33', AllowedCPUs: '0' },
      },
    );
    await must('systemctl', ['daemon-reload'], { timeout });
    await must('systemctl', ['set-property', '--runtime', unit, 'IPAccounting=no'], { timeout });
    assert.deepEqual(names.map(file), values, 'systemd has written its own again');
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('annotations: values of every kind', async () => {
    const id = uniqueId('kinds');
    const unit = `wherry-${id}.scope`;
    const path = await bundle(id, ['/bin/sleep', '1000'], '', (config) => {
      config['annotations'] = Object.fromEntries(
        Object.entries({
          Description: "'a container''s own words'".replace("''", "\\'"),
          SendSIGHUP: 'true',
          KillSignal: 'int32 10',
          TimeoutStopSec: '1.5',
          RuntimeMaxUSec: 'uint64 900000000',
          Documentation: "['https://example.org/a', 'man:runc(8)']",
          IODeviceWeight: "[('/dev/vda', uint64 300)]",
        }).map(([name, value]) => [`org.systemd.property.${name}`, value]),
      );
    });
    await create(id, path);
    assert.deepEqual(
      await shown(
        unit,
        'Description',
        'SendSIGHUP',
        'KillSignal',
        'TimeoutStopUSec',
        'RuntimeMaxUSec',
        'Documentation',
        'IODeviceWeight',
      ),
      {
        ...{
          Description: "a container's own words",
          SendSIGHUP: 'yes',
          KillSignal: '10',
          TimeoutStopUSec: '1.500000s',
        },
        ...{
          RuntimeMaxUSec: '15min',
          Documentation: 'https://example.org/a "man:runc(8)"',
          IODeviceWeight: '/dev/vda 300',
        },
      },
    );
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('a unit that is a slice; one that was there before stays', async () => {
    for (const mine of [true, false]) {
      const id = uniqueId('slice');
      const unit = `wherrytest-${id.replaceAll('-', '')}.slice`;
      const path = await bundle(id, ['/bin/sleep', '1000'], `wherrytest.slice::${unit}`);
      if (!mine) await must('systemctl', ['start', unit], { timeout });
      const pid = await create(id, path);
      assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::/wherrytest.slice/${unit}\n`);
      await wherry.must(['delete', '--force', id], { timeout });
      assert.equal((await shown(unit, 'ActiveState'))['ActiveState'], mine ? 'inactive' : 'active');
    }
    await must('systemctl', ['stop', 'wherrytest.slice'], { timeout });
  });

  test('the name of a failed unit is free; that of a living one is not, and it is left alone', async () => {
    const failed = uniqueId('failed');
    const scope = ['--scope', '--quiet', '--unit'];
    const timed = ['-p', 'RuntimeMaxSec=1', '/bin/sleep', '1000'];
    await run('systemd-run', [...scope, `wherry-${failed}.scope`, ...timed], { timeout });
    assert.equal((await shown(`wherry-${failed}.scope`, 'ActiveState'))['ActiveState'], 'failed');
    await create(failed, await bundle(failed, ['/bin/sleep', '1000'], ''));
    await wherry.must(['delete', '--force', failed], { timeout });

    const living = uniqueId('living');
    const unit = `wherry-${living}.service`.replace('service', 'scope');
    const child = run('systemd-run', [...scope, unit, '/bin/sleep', '1000'], { timeout });
    await eventually(
      'it lives',
      async () => (await shown(unit, 'ActiveState'))['ActiveState'] === 'active' || undefined,
    );
    const path = await bundle(living, ['/bin/true'], '');
    const refused = await wherry.run(['--systemd-cgroup', 'run', '-b', path, living], { timeout });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /in use|not empty/);
    assert.equal((await shown(unit, 'ActiveState'))['ActiveState'], 'active');
    await must('systemctl', ['stop', unit], { timeout });
    await child;
  });

  test('one connection, kept; a new one when the bus was started again, and when systemd was', async () => {
    const connections = async (): Promise<number> => {
      const { stdout } = await must('busctl', ['list', '--unique', '--no-legend'], { timeout });
      return stdout.split('\n').filter((line) => /\b(node|wherryd)\b/.test(line)).length;
    };
    const round = async (): Promise<void> => {
      const id = uniqueId('bus');
      const path = await bundle(id, ['/bin/true'], '');
      const result = await wherry.run(['--systemd-cgroup', 'run', '-b', path, id], { timeout });
      assert.deepEqual(result, { code: 0, stdout: '', stderr: '' });
    };
    for (let count = 0; count < 3; count++) await round();
    const before = await connections();
    await round();
    assert.equal(await connections(), before, 'no second connection');
    await must('systemctl', ['restart', 'dbus.service'], { timeout });
    await round();
    await must('systemctl', ['daemon-reexec'], { timeout });
    await round();
    assert.equal(await connections(), before);
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
