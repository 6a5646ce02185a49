/** Containers on a host whose only hierarchy is cgroup v2: what the kernel shows of them, from birth to removal. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const unified = '/sys/fs/cgroup';
const LIMIT = 90_000;

interface State {
  pid: number;
  status: string;
}

describe('cgroup v2', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const bundle = (
    id: string,
    script: string,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<string> =>
    makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux['cgroupsPath'] = `/wherry-tests/${id}`;
      edit(config);
    });
  const file = (id: string, name: string): string =>
    readFileSync(join(unified, 'wherry-tests', id, name), 'utf8').trim();
  const state = async (id: string): Promise<State> =>
    JSON.parse(await wherry.must(['state', id], { timeout: LIMIT })) as State;
  const run = (id: string, path: string) => wherry.run(['run', '-b', path, id], { timeout: LIMIT });

  test('this host has v2 and nothing else', () => {
    const types = readFileSync('/proc/self/mountinfo', 'utf8').match(/ - cgroup2? /g) ?? [];
    assert.deepEqual([...new Set(types)], [' - cgroup2 ']);
  });

  test('run: output, exit code, and nothing is left', async () => {
    const id = uniqueId('run');
    const path = await bundle(id, 'echo out; echo err >&2; exit 3');
    assert.deepEqual(await run(id, path), { code: 3, stdout: 'out\n', stderr: 'err\n' });
    assert.equal(existsSync(join(unified, 'wherry-tests', id)), false);
  });

  test('create, start, kill, delete: the init is in its cgroup from the beginning', async () => {
    const id = uniqueId('life');
    const path = await bundle(id, 'exec sleep 1000');
    await wherry.must(['create', '-b', path, id], {
      outputFile: join(wherry.folder, id, 'out'),
      timeout: LIMIT,
    });
    const { pid, status } = await state(id);
    assert.equal(status, 'created');
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::/wherry-tests/${id}\n`);
    assert.deepEqual(file(id, 'cgroup.procs').split('\n'), [String(pid)]);
    await wherry.must(['start', id], { timeout: LIMIT });
    await wherry.must(['kill', id, 'KILL'], { timeout: LIMIT });
    await eventually(
      'it has stopped',
      async () => (await state(id)).status === 'stopped' || undefined,
      LIMIT,
    );
    await wherry.must(['delete', id], { timeout: LIMIT });
    assert.equal(existsSync(join(unified, 'wherry-tests', id)), false);
  });

  test('limits stand in the files of the cgroup', async () => {
    const id = uniqueId('limits');
    const path = await bundle(id, 'exec sleep 1000', (config) => {
      config.linux.resources = {
        memory: { limit: 64 << 20, reservation: 32 << 20 },
        cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: '0' },
        pids: { limit: 17 },
        unified: { 'memory.high': String(48 << 20), 'cpu.max.burst': '1000' },
      };
    });
    await wherry.must(['create', '-b', path, id], {
      outputFile: join(wherry.folder, id, 'out'),
      timeout: LIMIT,
    });
    const names = ['memory.max', 'memory.low', 'memory.high', 'cpu.weight', 'cpu.max', 'cpu.max.burst'];
    const values = [...names, 'cpuset.cpus', 'pids.max'].map((name) => file(id, name));
    assert.deepEqual(values, ['67108864', '33554432', '50331648', '59', '50000 100000', '1000', '0', '17']);
    await wherry.must(['delete', '--force', id], { timeout: LIMIT });
  });

  test('a unified file that this kernel does not have is named, and nothing is left', async () => {
    const id = uniqueId('unified');
    const path = await bundle(id, 'true', (config) => {
      config.linux.resources = { unified: { 'memory.nonsense': '1' } };
    });
    const { code, stderr } = await run(id, path);
    assert.notEqual(code, 0);
    assert.match(stderr, /memory\.nonsense/);
    assert.equal(existsSync(join(unified, 'wherry-tests', id)), false);
  });

  test('inside: a cgroup namespace of its own and a cgroup2 mount whose root is the container', async () => {
    const id = uniqueId('inside');
    const path = await bundle(
      id,
      'cat /proc/self/cgroup; grep -c "/sys/fs/cgroup .* - cgroup2 " /proc/self/mountinfo; cat /sys/fs/cgroup/pids.max',
      (config) => {
        config.linux.resources = { pids: { limit: 23 } };
        if (!config.linux.namespaces.some(({ type }) => type === 'cgroup'))
          config.linux.namespaces.push({ type: 'cgroup' });
      },
    );
    assert.deepEqual(await run(id, path), { code: 0, stdout: '0::/\n1\n23\n', stderr: '' });
  });

  test('device rules: what they deny cannot be opened, what they allow can', async () => {
    const id = uniqueId('dev');
    const script =
      'mknod /dev/mem c 1 1; mknod /dev/kmsg c 1 11; cat /dev/kmsg & sleep 1; kill $! && echo kmsg; : < /dev/null && : > /dev/zero && echo usual; cat /dev/mem';
    const path = await bundle(id, script, (config) => {
      const capabilities = config.process['capabilities'] as Record<string, string[]>;
      for (const set of ['bounding', 'effective', 'permitted'])
        capabilities[set]?.push('CAP_MKNOD', 'CAP_SYSLOG');
      config.root.readonly = false;
      config.linux.resources = {
        devices: [
          { allow: false, access: 'rwm' },
          { allow: true, type: 'c', major: 1, minor: 11, access: 'r' },
        ],
      };
    });
    const { code, stdout, stderr } = await run(id, path);
    assert.notEqual(code, 0);
    assert.match(stdout, /kmsg\nusual\n/);
    assert.match(stderr, /\/dev\/mem.*Operation not permitted/);
  });

  test('without rules that deny, every device may be used', async () => {
    const id = uniqueId('dev-all');
    const path = await bundle(id, 'mknod /dev/m c 1 11 && exec 3< /dev/m && echo open', (config) => {
      const capabilities = config.process['capabilities'] as Record<string, string[]>;
      for (const set of ['bounding', 'effective', 'permitted'])
        capabilities[set]?.push('CAP_MKNOD', 'CAP_SYSLOG');
      config.root.readonly = false;
      config.linux.resources = { devices: [{ allow: true, access: 'rwm' }] };
    });
    assert.deepEqual(await run(id, path), { code: 0, stdout: 'open\n', stderr: '' });
  });

  test('delete --force ends a container with cgroups and daemons of its own', async () => {
    const id = uniqueId('tree');
    const script =
      'sleep 1000 & mkdir -p /sys/fs/cgroup/a/b && echo $! > /sys/fs/cgroup/a/b/cgroup.procs; exec sleep 1000';
    const path = await bundle(id, script, (config) => {
      config.root.readonly = false;
      // A pid namespace of the host's: the end of the init is not the end of its children.
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
      for (const mount of config.mounts)
        if (mount.type === 'cgroup') mount.options = mount.options?.filter((option) => option !== 'ro');
    });
    await wherry.must(['create', '-b', path, id], {
      outputFile: join(wherry.folder, id, 'out'),
      timeout: LIMIT,
    });
    await wherry.must(['start', id], { timeout: LIMIT });
    await eventually('it made its cgroups', () => file(id, 'a/b/cgroup.procs') !== '' || undefined, LIMIT);
    const daemon = Number(file(id, 'a/b/cgroup.procs'));
    await wherry.must(['delete', '--force', id], { timeout: LIMIT });
    assert.deepEqual(
      readdirSync(join(unified, 'wherry-tests')).filter((name) => name === id),
      [],
    );
    await eventually('its daemon is gone', () => !existsSync(`/proc/${daemon}`) || undefined, LIMIT);
  });
});
