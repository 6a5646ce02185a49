/** StreamStats over gRPC on a real cgroup: every part of the message that this host's kernel has files for, and numbers that move. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Metrics as MetricsV1 } from '../../../shim/gen/io/containerd/cgroups/v1/metrics.ts';
import { Metrics as MetricsV2 } from '../../../shim/gen/io/containerd/cgroups/v2/metrics.ts';
import type { StreamStatsResponse } from '../../../shim/gen/wherry/v1/runtime.ts';
import { METRICS_V1, METRICS_V2 } from '../../../shim/task/metrics.ts';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { makeBundle } from '../../support/bundle.ts';
import { GrpcClient } from '../../support/grpc-client.ts';
import { uniqueId } from '../../support/paths.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;
const MEMORY = 64 << 20;
/** Bytes that its program writes to a tmpfs. */
const FILE = 2n << 20n;
const host = detectCgroups();

describe('stats over gRPC', () => {
  let wherry: Wherry;
  let grpc: GrpcClient;
  before(async () => {
    wherry = new Wherry();
    await wherry.must(['daemon', 'start'], { timeout });
    grpc = new GrpcClient(wherry);
  });
  after(async () => {
    grpc?.[Symbol.dispose]();
    await wherry?.[Symbol.asyncDispose]();
  });

  test('a stream of a container at work, to its end', async () => {
    const id = uniqueId('stats');
    const script = 'dd if=/dev/zero of=/tmp/file bs=1M count=2 2> /dev/null; while :; do :; done';
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
      config.linux.resources = {
        memory: { limit: MEMORY, swap: MEMORY },
        pids: { limit: 50 },
        cpu: { quota: 5_000, period: 100_000 },
      };
    });
    await grpc.create(id, bundle);
    await grpc.start(id);
    const samples: StreamStatsResponse[] = [];
    const stream = grpc.streamStats(id, 200);
    for await (const sample of stream as AsyncIterable<StreamStatsResponse>) {
      samples.push(sample);
      // Once it was throttled (a small quota, as a busy machine gives it little anyway) and has written its file, it is ended from outside:
      // the last sample comes by itself.
      if (!sample.last && throttled(sample) > 0n && held(sample) >= FILE)
        await grpc.kill(id, 9).catch(() => {});
    }
    const last = samples.at(-1);
    assert.ok(last?.last === true && samples.length >= 2);
    assert.deepEqual(
      samples.map(({ sequence }) => sequence),
      samples.map((_, index) => BigInt(index + 1)),
    );
    const first = samples[0]!;
    assert.ok(used(last) > used(first), `${used(first)} to ${used(last)}`);
    if (host.mode === 'v2') checkV2(MetricsV2.decode(last.stats!.value));
    else checkV1(MetricsV1.decode(last.stats!.value));
    assert.equal(last.stats?.typeUrl, host.mode === 'v2' ? METRICS_V2 : METRICS_V1);
    await grpc.delete(id);
  });

  const v2Of = ({ stats }: StreamStatsResponse) => MetricsV2.decode(stats?.value ?? new Uint8Array());
  const v1Of = ({ stats }: StreamStatsResponse) => MetricsV1.decode(stats?.value ?? new Uint8Array());
  const used = (sample: StreamStatsResponse): bigint =>
    (host.mode === 'v2' ? v2Of(sample).cpu?.usageUsec : v1Of(sample).cpu?.usage?.total) ?? 0n;
  const throttled = (sample: StreamStatsResponse): bigint =>
    (host.mode === 'v2' ? v2Of(sample).cpu?.nrThrottled : v1Of(sample).cpu?.throttling?.throttledPeriods) ??
    0n;

  const held = (sample: StreamStatsResponse): bigint =>
    (host.mode === 'v2' ? v2Of(sample).memory?.usage : v1Of(sample).memory?.usage?.usage) ?? 0n;

  function checkV1({ memory, pids, cpu, memoryOomControl }: MetricsV1): void {
    assert.equal(memory?.usage?.limit, BigInt(MEMORY));
    assert.ok((memory?.usage?.max ?? 0n) >= FILE, 'the file in the tmpfs was its memory');
    assert.ok((memory?.totalPgFault ?? 0n) > 0n);
    assert.equal(memory?.hierarchicalMemoryLimit, BigInt(MEMORY));
    assert.equal(pids?.limit, 50n);
    assert.ok((cpu?.throttling?.periods ?? 0n) > 0n && (cpu?.throttling?.throttledTime ?? 0n) > 0n);
    assert.ok((cpu?.usage?.perCpu.length ?? 0) > 0);
    assert.ok(memoryOomControl !== undefined);
  }

  function checkV2({ memory, pids, cpu, memoryEvents, io, hugetlb, rdma }: MetricsV2): void {
    assert.equal(memory?.usageLimit, BigInt(MEMORY));
    assert.equal(memory?.swapLimit, 0n);
    assert.ok((memory?.pgfault ?? 0n) > 0n && memory?.kernelStack !== undefined);
    assert.equal(pids?.limit, 50n);
    assert.ok((cpu?.nrPeriods ?? 0n) > 0n && (cpu?.throttledUsec ?? 0n) > 0n);
    assert.ok((cpu?.systemUsec ?? 0n) + (cpu?.userUsec ?? 0n) > 0n);
    assert.ok(memoryEvents !== undefined && io !== undefined);
    if (existsSync('/sys/fs/cgroup/init.scope/memory.peak')) assert.ok((memory?.maxUsage ?? 0n) >= FILE);
    if (existsSync('/proc/pressure/cpu')) {
      assert.ok((cpu?.psi?.some?.total ?? 0n) > 0n, 'a throttled group is under pressure');
      assert.ok(memory?.psi !== undefined && io?.psi !== undefined);
    }
    if (host.unifiedControllers.includes('hugetlb'))
      assert.ok(hugetlb.some(({ pagesize }) => pagesize === '2MB'));
    if (host.unifiedControllers.includes('rdma')) assert.ok(rdma !== undefined);
  }
});
