/** The systemd driver where the controllers are v1's and a cgroup2 hierarchy stands beside them. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { must } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

const root = '/sys/fs/cgroup';
const timeout = 90_000;

describe('the systemd cgroup driver on cgroup v1 beside cgroup v2', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const bundle = (id: string, args: string[], edit: (config: SpecConfig) => void = () => {}) =>
    makeBundle(wherry.folder, id, args, (config) => {
      config.linux['cgroupsPath'] = `test.slice:wherry:${id}`;
      edit(config);
    });
  const create = async (id: string, path: string): Promise<number> => {
    const output = { outputFile: join(path, 'out'), timeout };
    const result = await wherry.run(['--systemd-cgroup', 'create', '-b', path, id], output);
    assert.equal(result.code, 0, `${readFileSync(join(path, 'out'), 'utf8')}\n${wherry.log()}`);
    return (JSON.parse(await wherry.must(['state', id], { timeout })) as { pid: number }).pid;
  };
  const property = async (unit: string, name: string): Promise<string> =>
    (await must('systemctl', ['show', unit, '-p', name, '--value'], { timeout })).stdout.trim();

  test('this host is hybrid and systemd is its init', () => {
    assert.ok(existsSync(`${root}/memory`) && existsSync(`${root}/unified/cgroup.controllers`));
    assert.equal(readFileSync('/proc/1/comm', 'utf8'), 'systemd\n');
  });

  test('one scope in every hierarchy, with limits that systemd keeps; gone afterwards', async () => {
    const id = uniqueId('v1');
    const unit = `wherry-${id}.scope`;
    const path = await bundle(id, ['/bin/sleep', '1000'], (config) => {
      config.linux.resources = {
        memory: { limit: 64 << 20 },
        cpu: { shares: 512, quota: 50_000, period: 100_000 },
        pids: { limit: 17 },
      };
    });
    const pid = await create(id, path);
    const cgroup = `/test.slice/${unit}`;
    const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');
    assert.deepEqual(
      lines.filter((line) => !line.endsWith(`:${cgroup}`)),
      [],
      'in no hierarchy elsewhere',
    );
    assert.ok(
      lines.some((line) => line.includes(':name=systemd:')) && lines.some((line) => line.startsWith('0::')),
    );
    const file = (controller: string, name: string): string =>
      readFileSync(join(root, controller, cgroup, name), 'utf8').trim();
    const values = (): string[] => [
      file('memory', 'memory.limit_in_bytes'),
      file('cpu,cpuacct', 'cpu.shares'),
      file('cpu,cpuacct', 'cpu.cfs_quota_us'),
      file('pids', 'pids.max'),
      file('pids', 'cgroup.procs'),
    ];
    assert.deepEqual(values(), ['67108864', '512', '50000', '17', String(pid)]);
    assert.equal(await property(unit, 'MemoryLimit'), '67108864');
    assert.equal(await property(unit, 'CPUShares'), '512');
    await must('systemctl', ['daemon-reload'], { timeout });
    assert.deepEqual(values(), ['67108864', '512', '50000', '17', String(pid)]);

    await wherry.must(['start', id], { timeout });
    await wherry.must(['update', '-r', '-', id], { input: JSON.stringify({ pids: { limit: 33 } }), timeout });
    assert.equal(file('pids', 'pids.max'), '33');
    assert.equal(await property(unit, 'TasksMax'), '33');
    await wherry.must(['pause', id], { timeout });
    assert.equal(file('freezer', 'freezer.state'), 'FROZEN');
    await wherry.must(['resume', id], { timeout });
    await wherry.must(['delete', '--force', id], { timeout });
    for (const controller of ['memory', 'pids', 'devices', 'freezer', 'systemd', 'unified'])
      assert.equal(existsSync(join(root, controller, cgroup)), false, controller);
    assert.equal(await property(unit, 'LoadState'), 'not-found');
  });

  test('device rules are the same after systemd has written its own', async () => {
    const id = uniqueId('devices');
    const path = await bundle(id, ['/bin/sleep', '1000'], (config) => {
      config.linux.resources = {
        devices: [
          { allow: false, access: 'rwm' },
          { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' },
          { allow: true, type: 'b', major: 254, access: 'r' },
        ],
      };
    });
    await create(id, path);
    const list = (): string[] =>
      readFileSync(join(root, 'devices', `test.slice/wherry-${id}.scope`, 'devices.list'), 'utf8')
        .trim()
        .split('\n')
        .sort();
    const rights = (lines: string[]): string[] => lines.map((line) => line.replace(/ [rwm]+$/, ''));
    const ours = list();
    assert.ok(ours.includes('c 10:229 rw') || ours.includes('c 10:229 rwm'), ours.join('\n'));
    assert.ok(!ours.includes('a *:* rwm'));
    await must('systemctl', ['daemon-reload'], { timeout });
    // Makes it write its list again.
    await must('systemctl', ['set-property', '--runtime', `wherry-${id}.scope`, 'CPUShares=300'], {
      timeout,
    });
    assert.deepEqual(rights(list()), rights(ours));
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('rules that systemd would undo are refused, and nothing is left', async () => {
    const id = uniqueId('refused');
    const path = await bundle(id, ['/bin/true'], (config) => {
      config.linux.resources = {
        devices: [
          { allow: true, access: 'rwm' },
          { allow: false, type: 'c', major: 1, minor: 1, access: 'rwm' },
        ],
      };
    });
    const result = await wherry.run(['--systemd-cgroup', 'run', '-b', path, id], { timeout });
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /linux\.resources\.devices.*systemd/);
    assert.equal(existsSync(join(root, 'memory/test.slice', `wherry-${id}.scope`)), false);
  });
});
