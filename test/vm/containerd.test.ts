/**
 * containerd's CRI as a kubelet with the systemd cgroup driver uses it (SystemdCgroup = true, pods in slices): the same life of a pod with
 * Wherry and with runc.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CriNode } from '../support/cri/node.ts';
import { imageName } from '../support/image.ts';
import { eventually, must } from '../support/run.ts';

const timeout = 90_000;
const MiB = 1 << 20;

describe('CRI with SystemdCgroup', () => {
  let node: CriNode;
  before(async () => {
    node = await CriNode.start('1.7', { systemd: true });
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
  });

  const ended = (id: string) =>
    eventually(
      'it has ended',
      async () => {
        const status = await node.cri.status(id);
        return status.state === 'CONTAINER_EXITED' ? status : undefined;
      },
      timeout,
    );

  /** What is seen of a pod's life; ids are left out. */
  async function life(handler: 'wherry' | 'runc'): Promise<Record<string, unknown>> {
    const { cri, cgroup } = node;
    // With the node's network a pod has the node's name, too.
    const config = { ...node.podConfig(handler, { network: 'NODE' }), hostname: '' };
    const pod = await cri.runPod(config, handler);
    const container = (name: string, script: string, memory: number) => ({
      metadata: { name, attempt: 0 },
      image: { image: imageName },
      command: ['/bin/sh', '-c', script],
      linux: {
        resources: { memory_limit_in_bytes: memory, cpu_quota: 50_000, cpu_period: 100_000 },
        security_context: { namespace_options: { network: 'NODE' as const, pid: 'CONTAINER' as const } },
      },
    });
    const script = 'trap "exit 7" TERM; while :; do sleep 0.2; done';
    const id = await cri.run(pod, container('server', script, 64 * MiB), config);
    const plain = (text: string): string =>
      text.replaceAll(id, 'ID').replaceAll(`${cgroup}-${handler}`, 'POD').replaceAll(cgroup, 'PODS');
    const unit = `cri-containerd-${id}.scope`;
    const path = readFileSync(`/proc/${await cri.pid(id)}/cgroup`, 'utf8').slice('0::'.length, -1);
    const file = (name: string): string => readFileSync(join('/sys/fs/cgroup', path, name), 'utf8').trim();
    const shown = async (...names: string[]): Promise<string> =>
      (await must('systemctl', ['show', unit, '-p', names.join(',')], { timeout })).stdout;
    const seen: Record<string, unknown> = {
      path: plain(path),
      files: ['memory.max', 'cpu.max'].map(file),
      unit: plain(await shown('Slice', 'Delegate', 'ActiveState', 'MemoryMax', 'CPUQuotaPerSecUSec')),
      exec: (await cri.execSync(id, ['/bin/sh', '-c', 'exit 9'], 60)).code,
    };
    const { cpu, memory } = await cri.stats(id);
    seen['stats'] = [cpu?.usage_core_nano_seconds, memory?.working_set_bytes].map(
      (one) => (one?.value ?? 0) > 0,
    );
    await cri.call('UpdateContainerResources', {
      container_id: id,
      linux: { memory_limit_in_bytes: 96 * MiB, cpu_quota: 25_000, cpu_period: 100_000 },
    });
    seen['updated'] = [['memory.max', 'cpu.max'].map(file), await shown('MemoryMax', 'CPUQuotaPerSecUSec')];
    await cri.stop(id, 60);
    const { exit_code, reason } = await ended(id);
    seen['stopped'] = [exit_code, reason];
    await cri.remove(id);
    seen['gone'] = [existsSync(join('/sys/fs/cgroup', path)), await shown('LoadState')];

    const hog = await cri.run(pod, container('hog', 'exec tail /dev/zero', 24 * MiB), config);
    const end = await ended(hog);
    seen['hog'] = [end.exit_code, end.reason];
    await cri.removePod(pod);
    return seen;
  }

  test('a pod: units, limits, exec, stats, update, stop, out of memory, as with runc', async () => {
    const ours = await life('wherry');
    assert.equal(ours['path'], '/PODS.slice/POD.slice/cri-containerd-ID.scope');
    assert.deepEqual(
      [ours['stopped'], ours['hog']],
      [
        [7, 'Error'],
        [137, 'OOMKilled'],
      ],
    );
    // containerd's own shim may tell of the end before it tells of the kill, and is said to have ended by an error then.
    const withoutWhy = ({ hog, ...rest }: Record<string, unknown>) => ({
      ...rest,
      hog: (hog as unknown[])[0],
    });
    assert.deepEqual(withoutWhy(ours), withoutWhy(await life('runc')));
  });
});
