import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig } from '../../../src/oci/config.ts';
import { launchSpec } from '../../../src/oci/launch.ts';
import { unsupported } from '../../../src/oci/supported.ts';
import { configWith, type Loose } from './support.ts';

const refused = (edit: (config: Loose) => void, version: 1 | 2 = 1) =>
  unsupported(checkConfig(configWith(edit)).config, version).map(({ path }) => path);

describe('fields that are not applied yet', () => {
  const cases: [path: string, edit: (config: Loose) => void][] = [
    ['linux.resources.unified', (c) => (c.linux.resources.unified = { 'memory.high': '1' })],
  ];
  for (const [path, edit] of cases) it(path, () => assert.deepEqual(refused(edit), [path]));
});

describe('fields that ask for nothing are no hindrance', () => {
  it('empty hooks, labels, lists and defaults', () => {
    const paths = refused((c) => {
      c.hooks = { prestart: [], poststop: [] };
      c.process.apparmorProfile = '';
      c.process.selinuxLabel = '';
      c.linux.mountLabel = '';
      c.linux.netDevices = {};
      c.linux.personality = { domain: 'LINUX', flags: [] };
      c.linux.resources.unified = {};
    });
    assert.deepEqual(paths, []);
  });

  it('unconfined is no AppArmor profile', () => {
    assert.deepEqual(
      refused((c) => (c.process.apparmorProfile = 'unconfined')),
      [],
    );
  });

  it('cgroup v2 files on cgroup v2', () => {
    assert.deepEqual(
      refused((c) => (c.linux.resources.unified = { 'memory.high': '1' }), 2),
      [],
    );
  });

  it('what launch writes is applied whole', () => {
    const spec = launchSpec({ id: 'x', args: ['sh'], machine: 'x86_64', memory: 2 ** 26, cpus: 1, pids: 9 });
    assert.deepEqual(unsupported(spec), []);
  });
});
