/**
 * What a node's pods must live through, each test named after the behaviour of the shim's contract that it shows (docs/shim-behaviours.md).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { below } from '../../support/below.ts';
import { allCgroups, mounts } from '../../support/cgroups.ts';
import type { PodConfig } from '../../support/cri/client.ts';
import { CriNode, type Handler } from '../../support/cri/node.ts';
import type { ContainerdVersion } from '../../support/debs.ts';
import { imageName } from '../../support/image.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { container } from './scenario.ts';

const server = 'trap "exit 7" TERM; echo up; sleep 100000 & wait';

/** `CRI_PODS=200`: so many pods over a restart of containerd. */
const PODS = Number(process.env['CRI_PODS'] ?? 20);

export interface Running {
  config: PodConfig;
  pod: string;
  container: string;
}

/** Its first word is in its log, so it hears SIGTERM. */
export async function runServer(node: CriNode, handler: Handler, name: string): Promise<Running> {
  const config = node.podConfig(name);
  const pod = await node.cri.runPod(config, handler);
  const id = await node.cri.run(pod, container('server', server), config);
  const log = join(config.log_directory, 'server.log');
  await eventually('it is up', () => /stdout F up\n$/.test(readFileSync(log, 'utf8')) || undefined);
  return { config, pod, container: id };
}

export function criBehaviours(version: ContainerdVersion): void {
  describe(`containerd ${version}`, () => {
    let node: CriNode;
    before(async () => {
      node = await CriNode.start(version);
    });
    after(async () => {
      await node?.[Symbol.asyncDispose]();
    });

    const exited = (id: string) =>
      eventually(`${id} has exited`, async () => {
        const status = await node.cri.status(id);
        return status.state === 'CONTAINER_EXITED' ? status : undefined;
      });

    test('40: pause container deleted before an app container: the shim still exits at the end', async () => {
      const { containerd } = node;
      const pause = uniqueId('pause');
      const app = uniqueId('app');
      const run = (id: string) =>
        containerd.mustCtr([
          ...['run', '-d', '--runtime', 'io.containerd.wherry.v1'],
          ...['--annotation', `io.kubernetes.cri.sandbox-id=${pause}`],
          // Not in /k8s.io, which would stay.
          ...['--cgroup', `/${node.cgroup}/${id}`],
          ...[imageName, id, '/bin/sleep', '1000'],
        ]);
      await run(pause);
      await run(app);
      const name = createHash('sha256')
        .update(join(containerd.address, 'k8s.io', pause))
        .digest('hex');
      const socket = join('/run/containerd/s', name);
      assert.ok(existsSync(socket), 'the pod has one socket');
      const other = createHash('sha256')
        .update(join(containerd.address, 'k8s.io', app))
        .digest('hex');
      assert.equal(
        existsSync(join('/run/containerd/s', other)),
        false,
        'and the second container none of its own',
      );
      await containerd.mustCtr(['task', 'rm', '--force', pause]);
      assert.match(await containerd.mustCtr(['task', 'ls']), new RegExp(`${app}\\s+\\d+\\s+RUNNING`));
      await containerd.mustCtr(['task', 'exec', '--exec-id', 'e', app, '/bin/true']);
      await containerd.mustCtr(['task', 'rm', '--force', app]);
      await eventually('the socket goes', () => !existsSync(socket) || undefined);
      for (const id of [pause, app]) await containerd.mustCtr(['container', 'rm', id]);
    });

    test('54: crictl stats and kubelet summary, ctr metrics show cpu, memory, pids', async () => {
      const { pod, container } = await runServer(node, 'wherry', 'stats');
      const stats = await node.cri.stats(container);
      assert.ok((stats.cpu?.usage_core_nano_seconds?.value ?? 0) > 0);
      assert.ok((stats.memory?.working_set_bytes?.value ?? 0) > 0);
      const ofPod = await node.cri.podStats(pod);
      assert.ok((ofPod.cpu?.usage_core_nano_seconds?.value ?? 0) > 0);
      assert.ok((ofPod.memory?.usage_bytes?.value ?? 0) > 0);
      // The sandbox's process, the shell, and often its sleep.
      assert.ok((ofPod.process?.process_count?.value ?? 0) >= 1);
      assert.equal(ofPod.network?.default_interface?.name, 'eth0');
      const metrics = await node.containerd.mustCtr(['task', 'metrics', container]);
      assert.match(metrics, /memory\.usage_in_bytes\s+[1-9]|memory\.usage\s+[1-9]/);
      assert.match(metrics, /pids\.current\s+[1-9]/);
      await node.cri.removePod(pod);
    });

    test(`57: containerd restart with ${PODS} pods: all reconnect, no delete executed, exec, logs, stats work after`, async () => {
      const all: (Running & { pid: number })[] = [];
      for (let index = 0; index < PODS; index++) {
        const running = await runServer(node, 'wherry', `restart${index}`);
        all.push({ ...running, pid: await node.cri.pid(running.container) });
      }
      let from = 0;
      await node.restart('SIGKILL', {
        meanwhile: () => {
          from = node.containerd.log().length;
        },
      });
      for (const { container, pid, pod, config } of all) {
        assert.equal((await node.cri.status(container)).state, 'CONTAINER_RUNNING');
        assert.equal((await node.cri.podStatus(pod)).state, 'SANDBOX_READY');
        assert.equal(await node.cri.pid(container), pid);
        assert.equal((await node.cri.execSync(container, ['/bin/echo', 'after'])).stdout, 'after\n');
        assert.ok(((await node.cri.stats(container)).memory?.usage_bytes?.value ?? 0) > 0);
        assert.match(readFileSync(join(config.log_directory, 'server.log'), 'utf8'), /stdout F up\n$/);
      }
      assert.doesNotMatch(node.containerd.log().slice(from), /dead shim|shim disconnected|leaked shim/);
      for (const { container, pod, config } of all) {
        await node.cri.stop(container, 20);
        assert.equal((await node.cri.status(container)).exit_code, 7);
        assert.match(readFileSync(join(config.log_directory, 'server.log'), 'utf8'), /stdout F up\n$/);
        await node.cri.removePod(pod);
      }
    });

    test('58: container exits while containerd is down: correct exit code after restart', async () => {
      const { container, pod } = await runServer(node, 'wherry', 'away');
      const pid = await node.cri.pid(container);
      await node.restart('SIGKILL', {
        meanwhile: async () => {
          process.kill(pid, 'SIGTERM');
          await eventually('it ends', () => !existsSync(`/proc/${pid}`) || undefined);
        },
      });
      assert.equal((await exited(container)).exit_code, 7, node.containerd.tail());
      await node.cri.removePod(pod);
    });

    test('60: the shim is killed: the pod goes NotReady, containers exit 137 or 255, nothing is left', async () => {
      const all = [await runServer(node, 'wherry', 'lost0'), await runServer(node, 'wherry', 'lost1')];
      const pids = await Promise.all(all.map(({ container }) => node.cri.pid(container)));
      killKeel(node, pids[0] ?? 0);
      for (const { pod, container } of all) {
        assert.match(String((await exited(container)).exit_code), /^(137|255)$/);
        await eventually(
          'NotReady',
          async () => (await node.cri.podStatus(pod)).state === 'SANDBOX_NOTREADY' || undefined,
        );
        await node.cri.removePod(pod);
      }
      for (const pid of pids) await eventually(`${pid} is dead`, () => stateOf(pid) === '' || undefined);
      const ids = all.flatMap(({ pod, container }) => [pod, container]);
      await eventually('nothing is left', () => {
        const left = leftovers(node, ids);
        if (left.length > 0) throw new Error(left.join('\n'));
        return true;
      });
    });
  });
}

/** SIGKILL to the parent of a container's init. */
export function killKeel(node: CriNode, init: number): void {
  const stat = readFileSync(`/proc/${init}/stat`, 'utf8');
  const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  assert.match(
    readFileSync(`/proc/${parent}/cmdline`, 'utf8'),
    new RegExp(`keel.*${node.containerd.runDir}`),
  );
  process.kill(parent, 'SIGKILL');
}

/** The letter of /proc/PID/stat; '' for none, and for a zombie, which is its parent's to reap. */
export function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0]?.replace('Z', '') ?? '';
  } catch {
    return '';
  }
}

/** Mounts, cgroups, state folders and bundles that are named after one of the ids. */
export function leftovers(node: CriNode, ids: readonly string[]): string[] {
  const { runDir, folder } = node.containerd;
  const files = [
    ...below(join(runDir, 'containers')),
    ...below(join(folder, 'state/io.containerd.runtime.v2.task')),
  ];
  return [...mounts(), ...allCgroups(), ...files].filter((path) => ids.some((id) => path.includes(id)));
}
