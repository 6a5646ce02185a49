import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { StatsResponse } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Metrics } from '../../../shim/gen/io/containerd/cgroups/v1/metrics.ts';
import { Metrics as MetricsV2 } from '../../../shim/gen/io/containerd/cgroups/v2/metrics.ts';
import { encodeMetrics, statsResponse } from '../../../shim/task/metrics.ts';
import type { CgroupStats } from '../../../src/cgroup/stats.ts';
import '../../support/property-seed.ts';

describe('metrics', () => {
  it('of v1 have every value in its field', () => {
    const entry = { limit: 1n, usage: 2n, max: 3n, failcnt: 4n };
    const blkio = { op: 'Read', device: '/dev/sda', major: 8n, minor: 0n, value: 512n };
    const rdma = { device: 'mlx', hcaHandles: 2, hcaObjects: 3 };
    const { typeUrl, value } = encodeMetrics({
      version: 1,
      takenAt: new Date(),
      pids: { current: 3n, limit: 100n },
      cpu: {
        total: 2n ** 60n,
        kernel: 5n,
        user: 6n,
        perCpu: [7n, 8n],
        periods: 9n,
        throttledPeriods: 10n,
        throttledTime: 11n,
      },
      memory: {
        stat: {
          cache: 1n,
          pgpgin: 2n,
          total_pgmajfault: 3n,
          hierarchical_memsw_limit: 4n,
          total_inactive_file: 5n,
          swap: 6n,
          rss_huge: 7n,
        },
        usage: entry,
        swap: entry,
        kernel: entry,
        kernelTcp: entry,
      },
      oomControl: { oomKillDisable: 1n, underOom: 0n, oomKill: 2n },
      blkio: { ioServiceBytesRecursive: [blkio], sectorsRecursive: [blkio] },
      hugetlb: [{ pagesize: '2MB', usage: 1n, max: 2n, failcnt: 3n }],
      rdma: { current: [rdma], limit: [rdma] },
    });
    assert.equal(typeUrl, 'io.containerd.cgroups.v1.Metrics');
    const metrics = Metrics.decode(value);
    assert.deepEqual(metrics.pids, { current: 3n, limit: 100n });
    assert.deepEqual(metrics.cpu, {
      usage: { total: 2n ** 60n, kernel: 5n, user: 6n, perCpu: [7n, 8n] },
      throttling: { periods: 9n, throttledPeriods: 10n, throttledTime: 11n },
    });
    const { memory } = metrics;
    assert.deepEqual(
      [
        memory?.cache,
        memory?.pgPgIn,
        memory?.totalPgMajFault,
        memory?.hierarchicalSwapLimit,
        memory?.totalInactiveFile,
        memory?.rssHuge,
      ],
      [1n, 2n, 3n, 4n, 5n, 7n],
    );
    assert.deepEqual(
      [memory?.usage, memory?.swap, memory?.kernel, memory?.kernelTcp],
      [entry, entry, entry, entry],
    );
    assert.deepEqual(metrics.memoryOomControl, { oomKillDisable: 1n, underOom: 0n, oomKill: 2n });
    assert.deepEqual(metrics.blkio?.ioServiceBytesRecursive, [blkio]);
    assert.deepEqual(metrics.blkio?.sectorsRecursive, [blkio]);
    assert.deepEqual(metrics.hugetlb, [{ pagesize: '2MB', usage: 1n, max: 2n, failcnt: 3n }]);
    assert.deepEqual(metrics.rdma, { current: [rdma], limit: [rdma] });
  });

  it('of v2 have every value in its field, and "max" whole', () => {
    const unlimited = 2n ** 64n - 1n;
    const line = { avg10: 1.5, avg60: 2.5, avg300: 3.5, total: 4n };
    const { typeUrl, value } = encodeMetrics({
      version: 2,
      takenAt: new Date(),
      pids: { current: 3n, limit: unlimited },
      cpu: {
        stat: {
          usage_usec: 1n,
          user_usec: 2n,
          nr_bursts: 3n,
          burst_usec: 4n,
          'core_sched.force_idle_usec': 5n,
        },
        pressure: { some: line },
      },
      memory: {
        stat: {
          anon: 1n,
          workingset_refault_anon: 2n,
          workingset_refault_file: 3n,
          pglazyfreed: 4n,
          thp_collapse_alloc: 5n,
        },
        usage: 6n,
        usageLimit: unlimited,
        swapUsage: 7n,
        swapLimit: 8n,
        maxUsage: 9n,
        swapMaxUsage: 10n,
        pressure: { full: line },
      },
      memoryEvents: { oom: 1n, oom_kill: 2n, oom_group_kill: 3n, sock_throttled: 4n },
      io: {
        usage: [{ major: 8n, minor: 0n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n }],
        pressure: { some: line, full: line },
      },
    });
    assert.equal(typeUrl, 'io.containerd.cgroups.v2.Metrics');
    const { pids, cpu, memory, memoryEvents, io } = MetricsV2.decode(value);
    assert.equal(pids?.limit, unlimited);
    assert.deepEqual(
      [cpu?.usageUsec, cpu?.userUsec, cpu?.nrBursts, cpu?.burstUsec, cpu?.psi],
      [1n, 2n, 3n, 4n, { some: line, full: undefined }],
    );
    assert.deepEqual(
      [
        memory?.anon,
        memory?.workingsetRefault,
        memory?.pglazyfreed,
        memory?.thpCollapseAlloc,
        memory?.usage,
        memory?.usageLimit,
      ],
      [1n, 5n, 4n, 5n, 6n, unlimited],
    );
    assert.deepEqual(
      [memory?.swapUsage, memory?.swapLimit, memory?.maxUsage, memory?.swapMaxUsage],
      [7n, 8n, 9n, 10n],
    );
    assert.deepEqual(memory?.psi, { some: undefined, full: line });
    assert.deepEqual(memoryEvents, { low: 0n, high: 0n, max: 0n, oom: 1n, oomKill: 2n, oomGroupKill: 3n });
    assert.deepEqual(io, {
      usage: [{ major: 8n, minor: 0n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n }],
      psi: { some: line, full: line },
    });
  });

  it('of nothing are empty', () => {
    assert.equal(encodeMetrics({ version: 1, takenAt: new Date() }).value.length, 0);
    assert.equal(encodeMetrics({ version: 2, takenAt: new Date() }).value.length, 0);
  });

  it('are the very bytes of the generated codec, whatever the numbers and however many', () => {
    const count = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const blkio = fc.record({
      op: fc.string(),
      device: fc.string(),
      major: count,
      minor: count,
      value: count,
    });
    const entry = fc.record({ limit: count, usage: count, max: count, failcnt: count });
    const stat = fc.record({ cache: count, total_pgpgin: count, total_unevictable: count });
    const line = fc.record({ avg10: fc.double(), avg60: fc.double(), avg300: fc.double(), total: count });
    const io = fc.record(
      {
        major: count,
        minor: count,
        rbytes: count,
        wbytes: count,
        rios: count,
        wios: count,
      },
      { noNullPrototype: true },
    );
    const many = { maxLength: 300, size: 'max' } as const;
    fc.assert(
      fc.property(
        fc.array(blkio, many),
        fc.array(count, many),
        fc.array(io, many),
        entry,
        stat,
        line,
        (entries, perCpu, usage, memory, counts, full) => {
          const zero = {
            total: 0n,
            kernel: 0n,
            user: 0n,
            periods: 0n,
            throttledPeriods: 0n,
            throttledTime: 0n,
          };
          const v1 = encodeMetrics({
            version: 1,
            takenAt: new Date(),
            cpu: { ...zero, perCpu },
            memory: { stat: counts, kernel: memory },
            blkio: { ioMergedRecursive: entries },
          });
          assert.deepEqual(v1.value, Buffer.from(Metrics.encode(Metrics.decode(v1.value)).finish()));
          const v2 = encodeMetrics({
            version: 2,
            takenAt: new Date(),
            memory: { stat: { anon: memory.limit, thp_collapse_alloc: memory.max } },
            io: { usage, pressure: { full } },
          });
          const decoded = MetricsV2.decode(v2.value);
          assert.deepEqual(v2.value, Buffer.from(MetricsV2.encode(decoded).finish()));
          assert.deepEqual(decoded.io?.usage, usage);
          assert.deepEqual(Metrics.decode(v1.value).cpu?.usage?.perCpu, perCpu);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('that cannot be written leave nothing in the next', () => {
    const pids = { current: 1n, limit: 2n };
    const bad = { version: 1, takenAt: new Date(), pids, blkio: { ioTimeRecursive: [{}] } };
    assert.throws(() => encodeMetrics(bad as unknown as CgroupStats), TypeError);
    const { value } = encodeMetrics({ version: 1, takenAt: new Date(), pids });
    assert.equal(value.toString('hex'), '120408011002');
  });

  it('are answered as the generated codec would', () => {
    const stats = encodeMetrics({ version: 1, takenAt: new Date(), pids: { current: 1n, limit: 2n ** 63n } });
    for (const answer of [{ stats }, { stats: { typeUrl: '', value: Buffer.alloc(0) } }, {}]) {
      const bytes = Buffer.from(statsResponse.encode(answer).finish());
      assert.deepEqual(bytes, Buffer.from(StatsResponse.encode(answer).finish()));
      assert.deepEqual(statsResponse.decode(bytes), StatsResponse.fromPartial(answer));
    }
  });
});
