/** Pods whose sandbox the shim makes itself: containerd 2.1, sandboxer = "shim". */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as sandbox from '../../../shim/gen/containerd/runtime/sandbox/v1/sandbox.ts';
import { NamespaceMode, PodSandboxConfig } from '../../../shim/gen/runtime/v1/pod.ts';
import { TtrpcClient } from '../../../shim/ttrpc/client.ts';
import type { Codec } from '../../../shim/ttrpc/service.ts';
import type { NamespaceOption } from '../../support/cri/client.ts';
import { CriNode } from '../../support/cri/node.ts';
import { bin, uniqueId } from '../../support/paths.ts';
import { eventually, must, stop } from '../../support/run.ts';
import { handlesTerm } from '../../support/signals.ts';
import { leftovers, stateOf } from './behaviours.ts';
import { container } from './scenario.ts';

const server = 'trap "exit 7" TERM; echo up; sleep 100000 & wait';

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

    const { pid: init } = JSON.parse(status.info['info'] ?? '{}') as { pid: number };
    assert.match(readFileSync(`/proc/${init}/cmdline`, 'utf8'), /^\/pause/);
    const pid = await cri.pid(one);
    for (const name of ['net', 'ipc', 'uts', 'pid'])
      assert.equal(readlinkSync(`/proc/${pid}/ns/${name}`), readlinkSync(`/proc/${init}/ns/${name}`), name);
    assert.notEqual(readlinkSync(`/proc/${init}/ns/pid`), readlinkSync('/proc/self/ns/pid'));
    const seen = await cri.execSync(one, ['/bin/sh', '-c', 'hostname; cat /etc/hostname; ls -d /dev/shm']);
    assert.deepEqual(seen, { stdout: 'made\nmade\n/dev/shm\n', stderr: '', code: 0 });
    assert.ok(((await cri.stats(one)).memory?.usage_bytes?.value ?? 0) > 0);

    await node.restart('SIGTERM');
    assert.equal((await cri.podStatus(pod)).state, 'SANDBOX_READY');
    assert.equal(await cri.pid(one), pid);
    assert.equal((await cri.execSync(one, ['/bin/echo', 'after'])).stdout, 'after\n');
    await handlesTerm(() => pid);
    await cri.stop(one, 20);
    assert.equal((await cri.status(one)).exit_code, 7);
    await cri.removePod(pod);
    assert.deepEqual([await cri.pods(), await cri.containers()], [[], []]);
    assert.deepEqual([stateOf(init), stateOf(pid)], ['', '']);
    await eventually('nothing is left', () => leftovers(node, [pod, one, two]).length === 0 || undefined);
    const { folder } = node.containerd;
    for (const base of ['root', 'state'])
      assert.equal(existsSync(join(folder, base, 'io.containerd.grpc.v1.cri/sandboxes', pod)), false, base);
  });

  test('a pod with a user namespace: its network, volumes and files are its own', async () => {
    const { cri } = node;
    const mappings = [{ host_id: 200_000, container_id: 0, length: 65_536 }];
    const own: NamespaceOption = {
      pid: 'POD',
      userns_options: { mode: 'POD', uids: mappings, gids: mappings },
    };
    const config = node.podConfig('mapped', own);
    const pod = await cri.runPod(config, 'sandbox');
    const status = await cri.podStatus(pod);
    assert.match(status.ip, /^10\.96\./);
    const { pid: init } = JSON.parse(status.info['info'] ?? '{}') as { pid: number };
    assert.match(readFileSync(`/proc/${init}/status`, 'utf8'), /^Uid:\t200000\t200000/m);
    const ids: string[] = [];
    for (const name of ['one', 'two']) {
      const id = await cri.run(pod, container(name, server, own), config);
      const pid = await cri.pid(id);
      for (const kind of ['user', 'net', 'ipc', 'uts', 'pid'])
        assert.equal(readlinkSync(`/proc/${pid}/ns/${kind}`), readlinkSync(`/proc/${init}/ns/${kind}`), kind);
      ids.push(id);
    }
    const inside = async (script: string) => {
      const { stdout, stderr, code } = await cri.execSync(ids[0] ?? '', ['/bin/sh', '-c', script]);
      assert.deepEqual([code, stderr], [0, ''], script);
      return stdout.trim().split(/\s+/).join(' ');
    };
    assert.equal(await inside('cat /proc/self/uid_map /proc/self/gid_map'), '0 200000 65536 0 200000 65536');
    assert.equal(await inside('id -u; stat -c %u /bin/busybox /etc/passwd /etc/hosts'), '0 0 0 0');
    assert.equal(await inside('echo > /root/written; echo > /dev/shm/written; hostname'), 'mapped');
    // sysfs shows the network only to those who own it.
    assert.match(await inside('ls /sys/class/net'), /eth0/);
    await node.restart('SIGKILL');
    assert.equal((await cri.podStatus(pod)).state, 'SANDBOX_READY');
    assert.equal(await inside('id -u'), '0');
    await cri.removePod(pod);
    assert.deepEqual([await cri.pods(), await cri.containers()], [[], []]);
    await eventually('nothing is left', () => leftovers(node, [pod, ...ids]).length === 0 || undefined);
  });

  test("a user namespace's network must be its own", async () => {
    const { containerd } = node;
    const id = uniqueId('alone');
    const bundle = join(containerd.folder, 'alone');
    mkdirSync(bundle, { mode: 0o711 });
    const shim = join(bin, 'containerd-shim-wherry-v1');
    const flags = ['-namespace', 'k8s.io', '-address', containerd.address, '-id', id];
    const env = { PATH: '/usr/bin:/bin', WHERRY_RUN_DIR: containerd.runDir };
    const started = await must(shim, [...flags, 'start'], { cwd: bundle, env });
    using client = await TtrpcClient.dial(/unix:[^"]+/.exec(started.stdout)?.[0] ?? '');
    const call = <Req, Res>(method: string, request: Codec<Req>, response: Codec<Res>, message: Req) =>
      client.call('containerd.runtime.sandbox.v1.Sandbox', method, { request, response }, message, 20_000);
    const ids = [{ hostId: 200_000, containerId: 0, length: 65_536 }];
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids };
    const pod = PodSandboxConfig.fromPartial({
      linux: { cgroupParent: `/${node.cgroup}`, securityContext: { namespaceOptions: { usernsOptions } } },
    });
    const options = {
      typeUrl: 'runtime.v1.PodSandboxConfig',
      value: PodSandboxConfig.encode(pod).finish() as Buffer,
    };
    const create = (netnsPath: string) =>
      call(
        'CreateSandbox',
        sandbox.CreateSandboxRequest,
        sandbox.CreateSandboxResponse,
        sandbox.CreateSandboxRequest.fromPartial({ sandboxId: id, bundlePath: bundle, options, netnsPath }),
      );
    const holders = [['--net'], ['--user', '--map-root-user', '--net']].map((kinds) =>
      spawn('unshare', [...kinds, 'sleep', '100000'], { stdio: 'ignore' }),
    );
    try {
      for (const [index, message] of [
        /netns_path: .* user namespace of the node/,
        /netns_path: .* with the uids 0:0:1, and the pod shall have 0:200000:65536/,
      ].entries()) {
        const pid = holders[index]?.pid ?? 0;
        await eventually('its namespace is there', () => {
          const cmdline = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
          return cmdline.startsWith('sleep') || undefined;
        });
        await assert.rejects(create(`/proc/${pid}/ns/net`), message);
      }
    } finally {
      for (const holder of holders) await stop(holder);
    }
    // Without a network of the caller's it has one of its own in a user namespace of its own.
    await create('');
    const about = { sandboxId: id };
    const { pid } = await call(
      'StartSandbox',
      sandbox.StartSandboxRequest,
      sandbox.StartSandboxResponse,
      sandbox.StartSandboxRequest.fromPartial(about),
    );
    assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t200000\t200000/m);
    assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync('/proc/self/ns/net'));
    await call(
      'ShutdownSandbox',
      sandbox.ShutdownSandboxRequest,
      sandbox.ShutdownSandboxResponse,
      sandbox.ShutdownSandboxRequest.fromPartial(about),
    );
    await must(shim, [...flags, 'delete'], { cwd: bundle, env });
    assert.equal(stateOf(pid), '');
    await eventually('nothing is left', () => leftovers(node, [id]).length === 0 || undefined);
  });
});
