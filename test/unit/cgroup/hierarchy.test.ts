import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeCgroups, parseProcCgroup } from '../../../src/cgroup/hierarchy.ts';
import { hybridHost, v2Host } from './hosts.ts';

test('a hybrid host: co-mounted, named and unified hierarchies, foreign mounts left out', () => {
  assert.equal(hybridHost.mode, 'hybrid');
  assert.deepEqual(
    hybridHost.hierarchies.map(({ folder, controllers }) => [folder, controllers]),
    [
      ['cpu,cpuacct', ['cpu', 'cpuacct']],
      ['cpuset', ['cpuset']],
      ['memory', ['memory']],
      ['devices', ['devices']],
      ['pids', ['pids']],
      ['systemd', ['name=systemd']],
    ],
  );
  const pids = hybridHost.hierarchies.find(({ folder }) => folder === 'pids');
  assert.equal(pids?.mountPoint, '/sys/fs/cgroup/pids');
  assert.equal(hybridHost.hierarchies[0]?.own, '/system.slice/wherry.service');
  assert.equal(hybridHost.unified?.mountPoint, '/sys/fs/cgroup/unified');
});

test('a v2 host has one hierarchy and its controllers', () => {
  assert.equal(v2Host.mode, 'v2');
  assert.deepEqual(v2Host.hierarchies, []);
  assert.equal(v2Host.unified?.own, '/system.slice/wherry.service');
  assert.ok(v2Host.unifiedControllers.includes('memory'));
});

test('a host with nothing mounted', () => {
  const host = describeCgroups({ mountinfo: '', cgroups: '', own: '', controllers: () => '' });
  assert.deepEqual(host, { mode: 'none', hierarchies: [], unified: undefined, unifiedControllers: [] });
});

test('only v1, escaped mount points, no /proc/cgroups', () => {
  const host = describeCgroups({
    mountinfo: '39 31 0:36 / /a\\040b/pids rw - cgroup cgroup rw,pids\n',
    cgroups: '',
    own: '8:pids:/\n',
    controllers: () => '',
  });
  assert.equal(host.mode, 'v1');
  assert.equal(host.hierarchies[0]?.mountPoint, '/a b/pids');
});

test('in a container without a cgroup namespace the own path is told below the mount', () => {
  const host = (own: string) =>
    describeCgroups({
      mountinfo: '39 31 0:36 /docker/abc /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n',
      cgroups: '',
      own: `8:pids:${own}\n`,
      controllers: () => '',
    }).hierarchies[0]?.own;
  assert.equal(host('/docker/abc/inner'), '/inner');
  assert.equal(host('/docker/abc'), '/');
  assert.equal(host('/elsewhere'), '/');
});

test('/proc/PID/cgroup paths may contain colons', () => {
  assert.deepEqual(parseProcCgroup('4:cpu,cpuacct:/a:b\n0::/c\n'), {
    cpu: '/a:b',
    cpuacct: '/a:b',
    '': '/c',
  });
});
