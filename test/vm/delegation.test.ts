/** A container in a user namespace owns its cgroup where it may write to it (config-linux.md, "Cgroup ownership"), and only there. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const timeout = 90_000;
const FIRST = 100_000;
const delegated = readFileSync('/sys/kernel/cgroup/delegate', 'utf8').trim().split('\n');

describe('delegation', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  /** Started; its cgroup's folder. */
  const start = async (id: string, script: string, edit: (config: SpecConfig) => void): Promise<string> => {
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux['cgroupsPath'] = `/wherry-tests/${id}`;
      const ids = [{ containerID: 0, hostID: FIRST, size: 65_536 }];
      Object.assign(config.linux, { uidMappings: ids, gidMappings: ids });
      for (const type of ['user', 'cgroup'])
        if (!config.linux.namespaces.some((found) => found.type === type))
          config.linux.namespaces.push({ type });
      for (const mount of config.mounts)
        if (mount.type === 'cgroup') mount.options = mount.options?.filter((option) => option !== 'ro');
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
      edit(config);
    });
    const result = await wherry.run(['create', '-b', bundle, id], {
      outputFile: join(bundle, 'out'),
      timeout,
    });
    assert.equal(result.code, 0, readFileSync(join(bundle, 'out'), 'utf8'));
    await wherry.must(['start', id], { timeout });
    return `/sys/fs/cgroup/wherry-tests/${id}`;
  };

  test('its root, or the user that it runs as, can make cgroups below its own and hand controllers down', async () => {
    for (const uid of [0, 7]) {
      const id = uniqueId('owner');
      const script = `cd /sys/fs/cgroup && mkdir inner && echo $$ > inner/cgroup.procs &&
        echo +pids > cgroup.subtree_control && echo 9 > inner/pids.max && cat inner/pids.max > /tmp/done; exec sleep 1000`;
      const folder = await start(id, script, (config) => {
        config.process['user'] = { uid, gid: 0 };
        for (const mount of config.mounts) if (mount.destination === '/tmp') mount.options = ['mode=1777'];
      });
      assert.equal(statSync(folder).uid, FIRST + uid);
      for (const file of delegated) assert.equal(statSync(join(folder, file)).uid, FIRST + uid, file);
      assert.equal(statSync(join(folder, 'memory.max')).uid, 0, 'its limits stay its parent');
      await eventually(
        'its own cgroup has a limit',
        () => readFileSync(`${folder}/inner/pids.max`, 'utf8').trim() === '9' || undefined,
        timeout,
      );
      await wherry.must(['delete', '--force', id], { timeout });
    }
  });

  test('not where its view is read-only, nor without a cgroup namespace of its own', async () => {
    const edits: ((config: SpecConfig) => void)[] = [
      (config) => {
        for (const mount of config.mounts) if (mount.type === 'cgroup') mount.options?.push('ro');
      },
      (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'cgroup');
        config.mounts = config.mounts.filter(({ type }) => type !== 'cgroup');
      },
    ];
    for (const edit of edits) {
      const id = uniqueId('not-owner');
      const folder = await start(id, 'exec sleep 1000', edit);
      assert.equal(statSync(folder).uid, 0);
      assert.equal(statSync(join(folder, 'cgroup.procs')).uid, 0);
      await wherry.must(['delete', '--force', id], { timeout });
    }
  });
});
