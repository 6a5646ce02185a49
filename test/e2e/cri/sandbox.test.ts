/** Pods whose sandbox the shim makes itself: containerd 2.1, sandboxer = "shim". */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CriNode } from '../../support/cri/node.ts';
import { eventually } from '../../support/run.ts';
import { leftovers, stateOf } from './behaviours.ts';
import { container } from './scenario.ts';

const server = 'trap "exit 7" TERM; echo up; while :; do sleep 0.05; done';

describe('the sandbox service, containerd 2.1', () => {
  let node: CriNode;
  before(async () => {
    node = await CriNode.start('2.1');
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  test('a pod of two containers: namespaces, exec, stats, restart of containerd, stop, removal', async () => {
    const { cri } = node;
    const shared = { pid: 'POD' } as const;
    const config = node.podConfig('made', shared);
    const pod = await cri.runPod(config, 'sandbox');
    const status = await cri.podStatus(pod);
    assert.equal(status.state, 'SANDBOX_READY');
    assert.match(status.ip, /^10\.96\./);
    const one = await cri.run(pod, container('one', server, shared), config);
    const two = await cri.run(pod, container('two', 'exit 3', shared), config);
    await eventually(
      'it ends',
      async () => (await cri.status(two)).state === 'CONTAINER_EXITED' || undefined,
    );
    assert.equal((await cri.status(two)).exit_code, 3);

    const { pid: sandbox } = JSON.parse(status.info['info'] ?? '{}') as { pid: number };
    assert.match(readFileSync(`/proc/${sandbox}/cmdline`, 'utf8'), /^\/pause/);
    const pid = await cri.pid(one);
    for (const name of ['net', 'ipc', 'uts', 'pid'])
      assert.equal(
        readlinkSync(`/proc/${pid}/ns/${name}`),
        readlinkSync(`/proc/${sandbox}/ns/${name}`),
        name,
      );
    assert.notEqual(readlinkSync(`/proc/${sandbox}/ns/pid`), readlinkSync('/proc/self/ns/pid'));
    const seen = await cri.execSync(one, ['/bin/sh', '-c', 'hostname; cat /etc/hostname; ls -d /dev/shm']);
    assert.deepEqual(seen, { stdout: 'made\nmade\n/dev/shm\n', stderr: '', code: 0 });
    assert.ok(((await cri.stats(one)).memory?.usage_bytes?.value ?? 0) > 0);

    await node.restart('SIGTERM');
    assert.equal((await cri.podStatus(pod)).state, 'SANDBOX_READY');
    assert.equal(await cri.pid(one), pid);
    assert.equal((await cri.execSync(one, ['/bin/echo', 'after'])).stdout, 'after\n');
    await cri.stop(one, 20);
    assert.equal((await cri.status(one)).exit_code, 7);
    await cri.removePod(pod);
    assert.deepEqual([await cri.pods(), await cri.containers()], [[], []]);
    assert.deepEqual([stateOf(sandbox), stateOf(pid)], ['', '']);
    await eventually('nothing is left', () => leftovers(node, [pod, one, two]).length === 0 || undefined);
    const { folder } = node.containerd;
    for (const base of ['root', 'state'])
      assert.equal(existsSync(join(folder, base, 'io.containerd.grpc.v1.cri/sandboxes', pod)), false, base);
  });

  test('what a sandbox of the shim cannot have is refused by its name', async () => {
    const mappings = [{ host_id: 200_000, container_id: 0, length: 65_536 }];
    const config = node.podConfig('user', {
      userns_options: { mode: 'POD', uids: mappings, gids: mappings },
    });
    await assert.rejects(node.cri.runPod(config, 'sandbox'), /user namespace|userns/i);
    assert.deepEqual(await node.cri.pods(), []);
  });
});
