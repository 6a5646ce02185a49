/** The same resources through runc: the kernel must end with the same values. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { planCgroup } from '../../../src/cgroup/plan.ts';
import type { LinuxResources } from '../../../src/oci/types.ts';
import { makeBundle } from '../../support/bundle.ts';
import { openTool } from '../../support/runtimes.ts';
import { AppliedCgroup, testPath } from './applied.ts';

const host = detectCgroups();
const cases: Record<string, LinuxResources> = {
  none: { devices: [{ allow: false, access: 'rwm' }] },
  limits: {
    devices: [
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rwm' },
    ],
    memory: { limit: 134_217_728, swap: 268_435_456, reservation: 67_108_864, swappiness: 10 },
    cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: '0', mems: '0' },
    pids: { limit: 50 },
  },
};

const files: [string, string][] = [
  ['devices', 'devices.list'],
  ['memory', 'memory.limit_in_bytes'],
  ['memory', 'memory.memsw.limit_in_bytes'],
  ['memory', 'memory.soft_limit_in_bytes'],
  ['memory', 'memory.swappiness'],
  ['memory', 'memory.oom_control'],
  ['cpu', 'cpu.shares'],
  ['cpu', 'cpu.cfs_quota_us'],
  ['cpu', 'cpu.cfs_period_us'],
  ['cpuset', 'cpuset.cpus'],
  ['cpuset', 'cpuset.mems'],
  ['pids', 'pids.max'],
];

function values(paths: Readonly<Record<string, string>>): Record<string, string[]> {
  const found = files.map(([controller, file]) => {
    const path = `${paths[controller]}/${file}`;
    return [file, existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').toSorted() : []];
  });
  return Object.fromEntries(found) as Record<string, string[]>;
}

for (const [name, resources] of Object.entries(cases)) {
  test(`${name}: the same values as runc`, { skip: host.mode === 'v2' }, async () => {
    const cgroupsPath = testPath(`runc-${name}`);
    const plan = planCgroup(host, { cgroupsPath, id: 'c', resources });
    const ours = await (async () => {
      await using _cgroup = new AppliedCgroup(plan);
      return values(plan.paths);
    })();
    // Made again without limits, only so that the parents that runc leaves behind go at the end.
    await using _parents = new AppliedCgroup({ ...plan, writes: [] });
    await using runc = await openTool('runc');
    const bundle = await makeBundle(runc.folder, 'b', ['/bin/sleep', '600'], (config) => {
      config.linux['cgroupsPath'] = cgroupsPath;
      config.linux.resources = resources as Record<string, unknown>;
      config.process['rlimits'] = [];
    });
    const id = `wherry-test-${name}-${process.pid}`;
    // The container would hold pipes open.
    const create = [...runc.globals, 'create', '--bundle', bundle, id];
    assert.equal(spawnSync(runc.command, create, { env: runc.env, stdio: 'ignore' }).status, 0);
    try {
      assert.deepEqual(ours, values(plan.paths));
    } finally {
      await runc.run(['delete', '--force', id]);
    }
  });
}
