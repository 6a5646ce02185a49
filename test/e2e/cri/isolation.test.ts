/** 63: pods with a user namespace of their own, and recursive read-only mounts, as a kubelet asks for them. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { NamespaceOption } from '../../support/cri/client.ts';
import { CriNode, type Handler } from '../../support/cri/node.ts';
import { eventually, must } from '../../support/run.ts';
import { container } from './scenario.ts';

const mappings = [{ host_id: 200_000, container_id: 0, length: 65_536 }];
const mapped: NamespaceOption = { userns_options: { mode: 'POD', uids: mappings, gids: mappings } };
const forever = 'while :; do sleep 0.05; done';

/** containerd 2.1 asks the features only of what is named as its own shim. */
for (const [version, handler] of [
  ['2.1', 'path'],
  ['1.7', 'wherry'],
  ['1.7', 'path'],
] as ['1.7' | '2.1', Handler][]) {
  describe(`63: containerd ${version}, handler ${handler}`, () => {
    const idmapped: boolean = version === '2.1';
    let node: CriNode;
    before(async () => {
      node = await CriNode.start(version);
    });
    after(async () => {
      await node?.[Symbol.asyncDispose]();
    });

    const userns = 'a user-namespaced pod: root inside, another user outside, files and volumes shifted';
    test(userns, async () => {
      const { cri } = node;
      const config = node.podConfig('userns', mapped);
      const volume = join(node.containerd.folder, 'volume');
      mkdirSync(volume);
      writeFileSync(join(volume, 'from-outside'), 'hello');
      const pod = await cri.runPod(config, handler);
      const ofContainer = container('inside', `id -u; ${forever}`, mapped);
      // As a kubelet does for a volume of such a pod; containerd 1.7 gives files on the disk away instead.
      if (idmapped)
        ofContainer.mounts = [
          { container_path: '/volume', host_path: volume, uidMappings: mappings, gidMappings: mappings },
        ];
      const id = await cri.run(pod, ofContainer, config);
      const inside = async (script: string) => {
        const { stdout, stderr, code } = await cri.execSync(id, ['/bin/sh', '-c', script]);
        assert.deepEqual([code, stderr], [0, ''], script);
        return stdout.trim().split(/\s+/).join(' ');
      };
      assert.equal(
        await inside('cat /proc/self/uid_map /proc/self/gid_map'),
        '0 200000 65536 0 200000 65536',
      );
      assert.equal(await inside('id -u; stat -c %u /bin/busybox /etc/passwd'), '0 0 0');
      const pid = await cri.pid(id);
      assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t200000\t200000/m);
      if (idmapped) {
        // The volume's files are nobody's to shift on disk: the mount shifts them.
        assert.equal(
          await inside('stat -c %u /volume/from-outside; echo new > /volume/new; cat /volume/from-outside'),
          '0 hello',
        );
        assert.equal(statSync(join(volume, 'new')).uid, 0);
      }
      assert.equal(await inside('echo > /root/written; stat -c %u /root/written; hostname'), '0 userns');
      const log = join(config.log_directory, 'inside.log');
      await eventually('its words', () => /stdout F 0\n/.test(readFileSync(log, 'utf8')) || undefined);
      await cri.removePod(pod);
    });

    test('a recursive read-only mount', { skip: !idmapped && 'of 2.0 and later' }, async () => {
      const { cri } = node;
      const { runtime_handlers } = await cri.call<{
        runtime_handlers: { name: string; features: Record<string, boolean> | null }[];
      }>('Status');
      const { features } = runtime_handlers.find(({ name }) => name === handler) ?? {};
      assert.deepEqual(features, { recursive_read_only_mounts: true, user_namespaces: true });
      const outer = join(node.containerd.folder, 'outer');
      mkdirSync(join(outer, 'inner'), { recursive: true });
      chmodSync(outer, 0o777);
      await must('mount', ['-t', 'tmpfs', 'tmpfs', join(outer, 'inner')]);
      try {
        const config = node.podConfig('rro');
        const pod = await cri.runPod(config, handler);
        for (const [name, recursive, written] of [
          ['plain', false, 0],
          ['recursive', true, 1],
        ] as const) {
          const ofContainer = container(name, forever);
          ofContainer.mounts = [
            { container_path: '/mnt', host_path: outer, readonly: true, recursive_read_only: recursive },
          ];
          const id = await cri.run(pod, ofContainer, config);
          assert.equal((await cri.execSync(id, ['/bin/touch', '/mnt/file'])).code, 1);
          const { code, stderr } = await cri.execSync(id, ['/bin/touch', '/mnt/inner/file']);
          assert.equal(code, written, stderr);
        }
        await cri.removePod(pod);
      } finally {
        await must('umount', [join(outer, 'inner')]);
      }
    });
  });
}
