/** The systemd driver as an ordinary user: units of the user's own manager. That, and the kernel, are asked what became of them. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { ManagedUser } from './managed-user.ts';

const timeout = 90_000;
const MiB = 1 << 20;

describe('units of a user', () => {
  let user: ManagedUser;
  before(async () => {
    user = await ManagedUser.open();
  });
  after(async () => {
    await user?.[Symbol.asyncDispose]();
  });

  const args = (...words: string[]) => ({ process: { args: words } });
  const showCgroup = args('/bin/sh', '-c', 'cat /proc/self/cgroup; exit 3');

  test('a scope in the slice that is asked for: limits, exec, pause, update, stats, and its end', async () => {
    const id = uniqueId('scope');
    const unit = `wherry-${id}.scope`;
    const path = `${user.part}/app.slice/app-boat.slice/${unit}`;
    const folder = `/sys/fs/cgroup${path}`;
    const file = (name: string): string => readFileSync(join(folder, name), 'utf8').trim();
    const bundle = await user.bundle(id, {
      ...args('/bin/sleep', '1000'),
      annotations: { 'org.systemd.property.TimeoutStopSec': '7' },
      linux: {
        cgroupsPath: `app-boat.slice:wherry:${id}`,
        resources: {
          memory: { limit: 64 * MiB },
          cpu: { quota: 50_000, period: 100_000 },
          pids: { limit: 17 },
        },
      },
    });
    const outputFile = join(user.folder, 'out');
    const created = await user.wherry(['--systemd-cgroup', 'create', '-b', bundle, id], { outputFile });
    assert.equal(created.code, 0, readFileSync(outputFile, 'utf8'));
    await user.must(['start', id]);
    const { pid } = JSON.parse(await user.must(['state', id])) as { pid: number };
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::${path}\n`);
    assert.deepEqual(file('cgroup.procs').split('\n'), [String(pid)], 'nothing else is in it');
    assert.deepEqual(['memory.max', 'cpu.max', 'pids.max'].map(file), [
      String(64 * MiB),
      '50000 100000',
      '17',
    ]);
    const names = ['Slice', 'Delegate', 'MemoryMax', 'TasksMax', 'TimeoutStopUSec'];
    assert.deepEqual(await user.shown(unit, ...names), {
      ...{ Slice: 'app-boat.slice', Delegate: 'yes', MemoryMax: String(64 * MiB) },
      ...{ TasksMax: '17', TimeoutStopUSec: '7s' },
    });
    assert.equal(await user.must(['exec', id, '/bin/cat', '/proc/self/cgroup']), `0::${path}\n`);

    await user.must(['pause', id]);
    assert.match(file('cgroup.events'), /frozen 1/);
    await user.must(['resume', id]);
    await user.must(['update', '--memory', String(80 * MiB), '--pids-limit', '25', id]);
    assert.deepEqual(['memory.max', 'pids.max'].map(file), [String(80 * MiB), '25']);
    assert.equal((await user.shown(unit, 'MemoryMax'))['MemoryMax'], String(80 * MiB));
    const { data } = JSON.parse(await user.must(['events', '--stats', id])) as {
      data: { memory: { usage: { limit: number } }; pids: { current: number; limit: number } };
    };
    assert.deepEqual([data.memory.usage.limit, data.pids.current, data.pids.limit], [80 * MiB, 1, 25]);

    await user.must(['kill', id, 'KILL']);
    await eventually(
      'it has stopped',
      async () => (await user.must(['state', id])).includes('"status": "stopped"') || undefined,
      timeout,
    );
    await user.must(['delete', id]);
    assert.equal(existsSync(folder), false);
    assert.equal((await user.shown(unit, 'LoadState'))['LoadState'], 'not-found');
  });

  test('without a path: in user.slice', async () => {
    const id = uniqueId('plain');
    const bundle = await user.bundle(id, { ...showCgroup, linux: { cgroupsPath: null } });
    const result = await user.wherry(['--systemd-cgroup', 'run', '-b', bundle, id]);
    const stdout = `0::${user.part}/user.slice/wherry-${id}.scope\n`;
    assert.deepEqual(result, { code: 3, stdout, stderr: '' });
  });

  test('the bus is where the session says, and where systemd puts it when nothing is said', async () => {
    const { XDG_RUNTIME_DIR, ...rest } = user.env;
    const DBUS_SESSION_BUS_ADDRESS = `unix:path=${XDG_RUNTIME_DIR}/bus`;
    const envs = [
      { ...rest, DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR: user.folder },
      { ...rest, WHERRY_DAEMON: '0' },
    ];
    for (const given of envs) {
      const id = uniqueId('bus');
      const bundle = await user.bundle(id, { ...showCgroup, linux: { cgroupsPath: null } });
      const env = { ...given, WHERRY_RUN_DIR: join(user.folder, 'home', `${id}-run`) };
      const result = await user.wherry(['--systemd-cgroup', 'run', '-b', bundle, id], { env });
      await user.wherry(['daemon', 'stop', '--force'], { env });
      assert.equal(result.code, 3, result.stderr);
      assert.match(result.stdout, new RegExp(`wherry-${id}\\.scope`));
    }
    const id = uniqueId('no-bus');
    const bundle = await user.bundle(id, { ...showCgroup, linux: { cgroupsPath: null } });
    const env = { ...user.env, WHERRY_DAEMON: '0', DBUS_SESSION_BUS_ADDRESS: 'unix:path=/no/bus' };
    const refused = await user.wherry(['--systemd-cgroup', 'run', '-b', bundle, id], { env });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /the user's bus \(unix:path=\/no\/bus\) cannot be reached/);
  });

  test('who calls from elsewhere is told so; a wherryd that was started from there serves the others', async () => {
    await user.wherry(['daemon', 'stop']);
    const id = uniqueId('elsewhere');
    const bundle = await user.bundle(id, { ...showCgroup, linux: { cgroupsPath: null } });
    const { code, stderr } = await user.wherry(['--systemd-cgroup', 'run', '-b', bundle, id], {
      elsewhere: true,
    });
    assert.notEqual(code, 0);
    assert.match(stderr, /the caller's cgroup is in no part .*systemd-run --user --scope/);
    const second = uniqueId('second');
    const plain = await user.bundle(second, { ...showCgroup, linux: { cgroupsPath: null } });
    for (const [globals, place] of [
      [['--systemd-cgroup'], `user.slice/wherry-${second}.scope`],
      [[], `wherry/${second}`],
    ] as const) {
      const result = await user.wherry([...globals, 'run', '-b', plain, second]);
      assert.deepEqual(result, { code: 3, stdout: `0::${user.part}/${place}\n`, stderr: '' });
    }
  });

  test('a limit of a controller that the user was not given is named, and no unit is left', async () => {
    const id = uniqueId('cpuset');
    const bundle = await user.bundle(id, {
      ...showCgroup,
      linux: { cgroupsPath: null, resources: { cpu: { cpus: '0' } } },
    });
    const { code, stderr } = await user.wherry(['--systemd-cgroup', 'run', '-b', bundle, id]);
    assert.notEqual(code, 0, 'a guest whose systemd hands cpuset on');
    assert.match(stderr, /linux\.resources\.cpu\.cpus/);
    assert.equal((await user.shown(`wherry-${id}.scope`, 'LoadState'))['LoadState'], 'not-found');
  });
});
