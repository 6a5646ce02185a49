/** Pods that run on while the node's containerd, or the runtime of its handlers, becomes another. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { CriNode, handlers } from '../../support/cri/node.ts';
import type { ContainerdVersion } from '../../support/debs.ts';
import { handlesTerm } from '../../support/signals.ts';
import { runServer } from './behaviours.ts';
import { container } from './scenario.ts';

const others: readonly [ContainerdVersion, ContainerdVersion][] = [
  ['1.6', '2.1'],
  ['1.7', '2.1'],
  ['1.6', '1.7'],
];

describe('59: upgrade and downgrade with running pods', () => {
  for (const [older, newer] of others) {
    test(`from ${older} to ${newer} and back`, async () => {
      await using node = await CriNode.start(older);
      const { cri } = node;
      const early = await runServer(node, 'wherry', 'early');
      const pid = await cri.pid(early.container);
      const works = async (id: string): Promise<void> => {
        assert.equal((await cri.status(id)).state, 'CONTAINER_RUNNING', node.containerd.tail());
        assert.deepEqual(await cri.execSync(id, ['/bin/echo', 'here']), {
          stdout: 'here\n',
          stderr: '',
          code: 0,
        });
        assert.ok(((await cri.stats(id)).memory?.usage_bytes?.value ?? 0) > 0);
      };

      await node.restart('SIGTERM', { version: newer });
      await works(early.container);
      assert.equal(await cri.pid(early.container), pid);
      // A further container in the pod of the other containerd, and a pod of this one.
      const joined = await cri.run(
        early.pod,
        container('joined', 'trap "exit 8" TERM; while :; do sleep 0.05; done'),
        early.config,
      );
      const late = await runServer(node, 'wherry', 'late');
      await works(joined);

      await node.restart('SIGTERM', { version: older });
      for (const id of [early.container, joined, late.container]) await works(id);
      assert.equal(await cri.pid(early.container), pid);
      for (const [id, code] of [
        [early.container, 7],
        [joined, 8],
        [late.container, 7],
      ] as const) {
        await handlesTerm(() => cri.pid(id));
        await cri.stop(id, 20);
        assert.equal((await cri.status(id)).exit_code, code);
      }
      for (const pod of [early.pod, late.pod]) await cri.removePod(pod);
      assert.deepEqual(await cri.pods(), []);
    });
  }
});

describe("59: from containerd's own shim to Wherry and back", () => {
  for (const version of ['1.6', '1.7', '2.1'] as const) {
    const ours = version === '1.6' ? handlers.wherry : handlers.path;
    test(`containerd ${version}: old pods stay with it, new ones start on Wherry, a mixed pod works`, async () => {
      await using node = await CriNode.start(version);
      const { cri } = node;
      const shimOf = async (id: string): Promise<string> => {
        const stat = readFileSync(`/proc/${await cri.pid(id)}/stat`, 'utf8');
        const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
        return readFileSync(`/proc/${parent}/cmdline`, 'utf8').includes('keel') ? 'wherry' : 'go';
      };
      const add = (where: { pod: string; config: Parameters<typeof cri.create>[2] }, name: string) =>
        cri.run(
          where.pod,
          container(name, 'trap "exit 9" TERM; echo in; while :; do sleep 0.05; done'),
          where.config,
        );

      const old = await runServer(node, 'runc', 'old');
      await node.restart('SIGTERM', { handlers: { ...handlers, runc: ours } });
      const added = await add(old, 'added');
      const fresh = await runServer(node, 'runc', 'fresh');
      assert.deepEqual([await shimOf(old.container), await shimOf(fresh.container)], ['go', 'wherry']);
      // The group of a pod is one shim's.
      assert.equal(await shimOf(added), 'go');

      await node.restart('SIGTERM', { handlers });
      const back = await add(fresh, 'back');
      const again = await runServer(node, 'runc', 'again');
      assert.deepEqual([await shimOf(back), await shimOf(again.container)], ['wherry', 'go']);

      const expected = [
        [old.container, 7],
        [added, 9],
        [fresh.container, 7],
        [back, 9],
        [again.container, 7],
      ] as const;
      for (const [id, code] of expected) {
        assert.equal(
          (await cri.execSync(id, ['/bin/echo', 'here'])).stdout,
          'here\n',
          node.containerd.tail(),
        );
        await handlesTerm(() => cri.pid(id));
        await cri.stop(id, 20);
        assert.equal((await cri.status(id)).exit_code, code);
      }
      for (const { pod } of [old, fresh, again]) await cri.removePod(pod);
      assert.deepEqual([await cri.pods(), await cri.containers()], [[], []]);
    });
  }
});
