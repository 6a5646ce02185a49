/** Every resource of config.json on whichever version of cgroups this host has: what was asked for is what the kernel then says. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { detectCgroups } from '../../../src/cgroup/hierarchy.ts';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import type { RunResult } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;
const host = detectCgroups();
const v2 = host.mode === 'v2';
const MB = 1 << 20;
/** A whole disk, for limits of devices: major:minor. */
const disk = readdirSync('/sys/block')
  .filter((name) => /^(vd|sd|nvme|xvd)/.test(name))
  .map((name) => readFileSync(`/sys/block/${name}/dev`, 'utf8').trim())[0];
const [major = 0, minor = 0] = (disk ?? '').split(':').map(Number);

/** `memory/memory.limit_in_bytes` on v1, `memory.max` on v2. */
type Files = Record<string, string>;

interface Case {
  resources: Record<string, unknown>;
  v1: Files;
  v2: Files;
  /** Another value, for `update` of the running container. */
  update: Record<string, unknown>;
  after: { v1: Files; v2: Files };
  needs?: boolean;
}

const cases: Record<string, Case> = {
  memory: {
    resources: { memory: { limit: 128 * MB, swap: 192 * MB, reservation: 64 * MB } },
    v1: {
      'memory/memory.limit_in_bytes': String(128 * MB),
      'memory/memory.memsw.limit_in_bytes': String(192 * MB),
      'memory/memory.soft_limit_in_bytes': String(64 * MB),
    },
    v2: { 'memory.max': String(128 * MB), 'memory.swap.max': String(64 * MB), 'memory.low': String(64 * MB) },
    update: { memory: { limit: 256 * MB, swap: -1, reservation: 32 * MB } },
    after: {
      v1: {
        'memory/memory.limit_in_bytes': String(256 * MB),
        'memory/memory.memsw.limit_in_bytes': '9223372036854771712',
        'memory/memory.soft_limit_in_bytes': String(32 * MB),
      },
      v2: { 'memory.max': String(256 * MB), 'memory.swap.max': 'max', 'memory.low': String(32 * MB) },
    },
  },
  'memory, what only v1 has': {
    needs: !v2,
    resources: {
      memory: {
        limit: 64 * MB,
        kernelTCP: 8 * MB,
        swappiness: 17,
        disableOOMKiller: true,
        useHierarchy: true,
      },
    },
    v1: {
      'memory/memory.kmem.tcp.limit_in_bytes': String(8 * MB),
      'memory/memory.swappiness': '17',
      'memory/memory.oom_control': 'oom_kill_disable 1',
      'memory/memory.use_hierarchy': '1',
    },
    v2: {},
    update: { memory: { kernelTCP: 16 * MB, swappiness: 60 } },
    after: {
      v1: { 'memory/memory.kmem.tcp.limit_in_bytes': String(16 * MB), 'memory/memory.swappiness': '60' },
      v2: {},
    },
  },
  'processor time': {
    resources: { cpu: { shares: 512, quota: 50_000, period: 100_000, burst: 20_000 } },
    v1: {
      'cpu/cpu.shares': '512',
      'cpu/cpu.cfs_quota_us': '50000',
      'cpu/cpu.cfs_period_us': '100000',
      'cpu/cpu.cfs_burst_us': '20000',
    },
    v2: { 'cpu.weight': '59', 'cpu.max': '50000 100000', 'cpu.max.burst': '20000' },
    // A quota below the burst of before, and then none at all.
    update: { cpu: { shares: 2048, quota: 10_000, period: 50_000, burst: 5000 } },
    after: {
      v1: {
        'cpu/cpu.shares': '2048',
        'cpu/cpu.cfs_quota_us': '10000',
        'cpu/cpu.cfs_period_us': '50000',
        'cpu/cpu.cfs_burst_us': '5000',
      },
      v2: { 'cpu.weight': '174', 'cpu.max': '10000 50000', 'cpu.max.burst': '5000' },
    },
  },
  'an idle processor': {
    needs:
      !v2 ||
      existsSync('/sys/fs/cgroup/init.scope/cpu.idle') ||
      existsSync('/sys/fs/cgroup/system.slice/cpu.idle'),
    resources: { cpu: { shares: 512, idle: 1 } },
    v1: { 'cpu/cpu.idle': '1' },
    v2: { 'cpu.idle': '1' },
    update: { cpu: { shares: 512, idle: 0 } },
    after: {
      v1: { 'cpu/cpu.idle': '0', 'cpu/cpu.shares': '512' },
      v2: { 'cpu.idle': '0', 'cpu.weight': '59' },
    },
  },
  cpuset: {
    resources: { cpu: { cpus: '0', mems: '0' } },
    v1: { 'cpuset/cpuset.cpus': '0', 'cpuset/cpuset.mems': '0' },
    v2: { 'cpuset.cpus': '0', 'cpuset.mems': '0' },
    update: { cpu: { cpus: '0', mems: '0' } },
    after: { v1: { 'cpuset/cpuset.cpus': '0' }, v2: { 'cpuset.cpus.effective': '0' } },
  },
  processes: {
    resources: { pids: { limit: 33 } },
    v1: { 'pids/pids.max': '33' },
    v2: { 'pids.max': '33' },
    update: { pids: { limit: -1 } },
    after: { v1: { 'pids/pids.max': 'max' }, v2: { 'pids.max': 'max' } },
  },
  'weight of block devices': {
    needs: v2 || existsSync('/sys/fs/cgroup/blkio/blkio.bfq.io_service_bytes'),
    resources: { blockIO: { weight: 500 } },
    v1: { 'blkio/blkio.bfq.weight': '500' },
    v2: { 'io.weight': 'default 4950' },
    update: { blockIO: { weight: 10 } },
    after: { v1: { 'blkio/blkio.bfq.weight': '10' }, v2: { 'io.weight': 'default 1' } },
  },
  'rates of block devices': {
    needs: disk !== undefined,
    resources: {
      blockIO: {
        throttleReadBpsDevice: [{ major, minor, rate: 1_048_576 }],
        throttleWriteBpsDevice: [{ major, minor, rate: 2_097_152 }],
        throttleReadIOPSDevice: [{ major, minor, rate: 100 }],
        throttleWriteIOPSDevice: [{ major, minor, rate: 200 }],
      },
    },
    v1: {
      'blkio/blkio.throttle.read_bps_device': `${disk} 1048576`,
      'blkio/blkio.throttle.write_bps_device': `${disk} 2097152`,
      'blkio/blkio.throttle.read_iops_device': `${disk} 100`,
      'blkio/blkio.throttle.write_iops_device': `${disk} 200`,
    },
    v2: { 'io.max': `${disk} rbps=1048576 wbps=2097152 riops=100 wiops=200` },
    update: {
      blockIO: {
        throttleReadBpsDevice: [{ major, minor, rate: 4_194_304 }],
        throttleWriteIOPSDevice: [{ major, minor, rate: 0 }],
      },
    },
    after: {
      v1: {
        'blkio/blkio.throttle.read_bps_device': `${disk} 4194304`,
        'blkio/blkio.throttle.write_iops_device': '',
      },
      v2: { 'io.max': `${disk} rbps=4194304 wbps=2097152 riops=100 wiops=max` },
    },
  },
  'huge pages and their reservations': {
    needs: v2 && host.unifiedControllers.includes('hugetlb'),
    resources: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MB }] },
    v1: {},
    v2: { 'hugetlb.2MB.max': String(4 * MB), 'hugetlb.2MB.rsvd.max': String(4 * MB) },
    update: { hugepageLimits: [{ pageSize: '2MB', limit: 6 * MB }] },
    after: { v1: {}, v2: { 'hugetlb.2MB.max': String(6 * MB), 'hugetlb.2MB.rsvd.max': String(6 * MB) } },
  },
  'files by name': {
    needs: v2,
    resources: { unified: { 'memory.high': String(48 * MB), 'pids.max': '21', 'cgroup.max.depth': '3' } },
    v1: {},
    v2: { 'memory.high': String(48 * MB), 'pids.max': '21', 'cgroup.max.depth': '3' },
    update: { unified: { 'memory.high': 'max', 'memory.min': '4096' } },
    after: { v1: {}, v2: { 'memory.high': 'max', 'memory.min': '4096', 'cgroup.max.depth': '3' } },
  },
};

describe('resources', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const must = (args: string[], input?: string) => wherry.must(args, { timeout, input });
  const fails = async (args: string[], input?: string): Promise<RunResult> => {
    const result = await wherry.run(args, { timeout, input });
    assert.notEqual(result.code, 0, result.stdout);
    return result;
  };
  const read = (id: string, name: string): string => {
    const [controller, file] = v2
      ? ['', name]
      : [name.slice(0, name.indexOf('/')), name.slice(name.indexOf('/') + 1)];
    const mount = v2
      ? '/sys/fs/cgroup'
      : host.hierarchies.find(({ controllers }) => controllers.includes(controller))?.mountPoint;
    return readFileSync(`${mount}/${id}/${file}`, 'utf8').trim();
  };
  const check = (id: string, files: Files): void => {
    for (const [name, expected] of Object.entries(files)) {
      const found = read(id, name);
      // Of files with several lines the first is the value.
      assert.equal(name.endsWith('oom_control') ? found.split('\n')[0] : found, expected, name);
    }
  };
  const create = async (
    name: string,
    resources: Record<string, unknown>,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<string> => {
    const id = uniqueId(name.replaceAll(/[^a-z]+/g, '-').slice(0, 20));
    const bundle = await makeBundle(
      wherry.folder,
      id,
      ['/bin/sh', '-c', 'while :; do sleep 1; done'],
      (config) => {
        config.linux['cgroupsPath'] = `/${id}`;
        config.linux.resources = resources;
        edit(config);
      },
    );
    const result = await wherry.run(['create', '-b', bundle, id], {
      outputFile: join(bundle, 'out'),
      timeout,
    });
    assert.equal(result.code, 0, readFileSync(join(bundle, 'out'), 'utf8'));
    return id;
  };

  for (const [name, { resources, update, needs, ...expected }] of Object.entries(cases)) {
    test(`${name}: written, updated, read back`, { skip: needs === false }, async () => {
      const id = await create(name, resources);
      check(id, v2 ? expected.v2 : expected.v1);
      await must(['update', '-r', '-', id], JSON.stringify(update));
      check(id, v2 ? expected.after.v2 : expected.after.v1);
      await must(['delete', '--force', id]);
    });
  }

  test('an update that is refused half-way changes nothing', async () => {
    const id = await create('half', { pids: { limit: 40 }, cpu: { shares: 512 } });
    const bad = { cpu: { shares: 1024, cpus: '999' }, pids: { limit: 50 } };
    const { stderr } = await fails(['update', '-r', '-', id], JSON.stringify(bad));
    assert.match(stderr, /cpuset\.cpus|linux\.resources\.cpu\.cpus/);
    check(
      id,
      v2 ? { 'pids.max': '40', 'cpu.weight': '59' } : { 'pids/pids.max': '40', 'cpu/cpu.shares': '512' },
    );
    await must(['delete', '--force', id]);
  });

  test('checkBeforeUpdate: a limit below the usage is refused and nothing is killed', async () => {
    const id = await create('before', { memory: { limit: 64 * MB } });
    await must(['start', id]);
    const bad = JSON.stringify({ memory: { limit: 4096, checkBeforeUpdate: true } });
    const { stderr } = await fails(['update', '-r', '-', id], bad);
    assert.match(stderr, /rejecting memory limit 4096 < usage \d+/);
    assert.equal((JSON.parse(await must(['state', id])) as { status: string }).status, 'running');
    await must(['delete', '--force', id]);
  });

  test('annotations: files of v2 with a type', async () => {
    const annotations = { 'org.wherry.memory.high': '32Mi', 'org.wherry.memory.oom.group': 'true' };
    const edit = (config: SpecConfig) => {
      config['annotations'] = annotations;
    };
    if (v2) {
      const id = await create('annotations', {}, edit);
      check(id, { 'memory.high': String(32 * MB), 'memory.oom.group': '1' });
      await must(['delete', '--force', id]);
      return;
    }
    const id = uniqueId('annotations');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true'], edit);
    const { stderr } = await fails(['run', '-b', bundle, id]);
    assert.match(stderr, /annotations\["org\.wherry\.memory\.high"\]: this host has cgroup v1/);
  });

  const refusals: Record<string, { config: (config: SpecConfig) => void; text: RegExp; needs?: boolean }> = {
    'a file that this kernel has not': {
      needs: v2,
      config: (config) => {
        config.linux.resources = { unified: { 'memory.nonsense': '1' } };
      },
      text: /memory\.nonsense/,
    },
    'a controller that this kernel has not': {
      needs: v2,
      config: (config) => {
        config.linux.resources = { unified: { 'nonsense.max': '1' } };
      },
      text: /unified\["nonsense\.max"\]: this host has no nonsense cgroup controller/,
    },
    'files of v2 on v1': {
      needs: !v2,
      config: (config) => {
        config.linux.resources = { unified: { 'memory.high': '1' } };
      },
      text: /linux\.resources\.unified/,
    },
    'a page size that this machine has not': {
      needs: v2 && host.unifiedControllers.includes('hugetlb'),
      config: (config) => {
        config.linux.resources = { hugepageLimits: [{ pageSize: '3MB', limit: 1 }] };
      },
      text: /hugepageLimits\[0\]/,
    },
    'a controller that is not mounted': {
      needs: !v2 && !host.hierarchies.some(({ controllers }) => controllers.includes('rdma')),
      config: (config) => {
        config.linux.resources = { rdma: { mlx5_1: { hcaHandles: 3 } } };
      },
      text: /linux\.resources\.rdma\.mlx5_1: this host has no rdma cgroup controller/,
    },
    'an RDMA device that is not there': {
      needs: v2 && host.unifiedControllers.includes('rdma'),
      config: (config) => {
        config.linux.resources = { rdma: { mlx5_1: { hcaHandles: 3 } } };
      },
      text: /linux\.resources\.rdma\.mlx5_1|rdma\.max/,
    },
    'a block device that is not there': {
      config: (config) => {
        config.linux.resources = { blockIO: { throttleReadBpsDevice: [{ major: 511, minor: 9, rate: 5 }] } };
      },
      text: /throttleReadBpsDevice\[0\]/,
    },
  };
  for (const [name, { config, text, needs }] of Object.entries(refusals)) {
    test(`refused by name: ${name}`, { skip: needs === false }, async () => {
      const id = uniqueId('refused');
      const bundle = await makeBundle(wherry.folder, id, ['/bin/true'], (spec) => {
        spec.linux['cgroupsPath'] = `/${id}`;
        config(spec);
      });
      const { stderr } = await fails(['run', '-b', bundle, id]);
      assert.match(stderr, text);
      const mounts = v2 ? ['/sys/fs/cgroup'] : host.hierarchies.map(({ mountPoint }) => mountPoint);
      for (const mount of mounts) assert.equal(existsSync(`${mount}/${id}`), false, mount);
    });
  }
});
