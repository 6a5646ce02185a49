/** Why a container ended, in `wherry state` and over gRPC: itself, a signal, a dumped core, its seccomp filter, want of memory. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ExitReason } from '../../../shim/gen/wherry/v1/runtime.ts';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { GrpcClient } from '../../support/grpc-client.ts';
import { uniqueId } from '../../support/paths.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;
const MEMORY = 24 << 20;

interface Exit {
  status: number;
  reason: string;
  signal?: number;
  time: string;
  oomKills?: number;
  oomCgroup?: string;
}

interface Case {
  script: string;
  config?: (config: SpecConfig) => void;
  /** Sent from outside after the start. */
  signal?: number;
  state: Omit<Exit, 'time'>;
  reason: ExitReason;
}

/** An init of a pid namespace is spared by most signals; one of the host's is not. */
const withoutPidNamespace = (config: SpecConfig): void => {
  config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
};
const limited = (config: SpecConfig): void => {
  config.linux.resources = { memory: { limit: MEMORY, swap: MEMORY } };
};

const cases: Record<string, Case> = {
  'by itself': {
    script: 'exit 3',
    state: { status: 3, reason: 'exited' },
    reason: ExitReason.EXIT_REASON_EXITED,
  },
  'by a signal from outside': {
    script: 'exec sleep 1000',
    signal: 9,
    state: { status: 137, reason: 'signaled', signal: 9 },
    reason: ExitReason.EXIT_REASON_SIGNALED,
  },
  'by a fault, with its core dumped': {
    script: 'cd /tmp && kill -SEGV $$',
    config: (config) => {
      withoutPidNamespace(config);
      // Both the limit of its size and a place to put it: whether a core was dumped is the kernel's to say.
      config.process['rlimits'] = [{ type: 'RLIMIT_CORE', soft: 1 << 24, hard: 1 << 24 }];
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
    },
    state: { status: 139, reason: 'core-dumped', signal: 11 },
    reason: ExitReason.EXIT_REASON_CORE_DUMPED,
  },
  'by a fault, without a core': {
    script: 'kill -SEGV $$',
    config: (config) => {
      withoutPidNamespace(config);
      config.process['rlimits'] = [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }];
    },
    state: { status: 139, reason: 'signaled', signal: 11 },
    reason: ExitReason.EXIT_REASON_SIGNALED,
  },
  'by its seccomp filter': {
    script: 'exec mkdir /tmp/x',
    config: (config) => {
      config.process['rlimits'] = [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }];
      config.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_KILL_PROCESS' }],
      };
    },
    state: { status: 159, reason: 'seccomp', signal: 31 },
    reason: ExitReason.EXIT_REASON_SECCOMP,
  },
  'for want of memory': {
    script: 'exec tail /dev/zero',
    config: limited,
    state: { status: 137, reason: 'oom-killed', signal: 9, oomKills: 1, oomCgroup: '/' },
    reason: ExitReason.EXIT_REASON_OOM_KILLED,
  },
  'by itself, after a cgroup that it had made lost a process for want of memory': {
    // v1: its own limit is the nested cgroup's too. v2: a cgroup counts where its parent has handed the controller on, and one that does
    // has no process itself (cgroup-v2.rst, "No Internal Process Constraint").
    script: `d=/sys/fs/cgroup; [ -d $d/memory ] && d=$d/memory; mkdir -p $d/a/b
      if [ -e $d/cgroup.controllers ]; then
        mkdir $d/own && echo 0 > $d/own/cgroup.procs &&
          echo +memory > $d/cgroup.subtree_control && echo +memory > $d/a/cgroup.subtree_control || exit 9
      fi
      (echo 0 > $d/a/b/cgroup.procs && exec tail /dev/zero); exit 5`,
    config: (config) => {
      limited(config);
      for (const mount of config.mounts)
        if (mount.type === 'cgroup') mount.options = mount.options?.filter((option) => option !== 'ro');
    },
    state: { status: 5, reason: 'exited', oomKills: 1, oomCgroup: '/a/b' },
    reason: ExitReason.EXIT_REASON_EXITED,
  },
};

describe('the reason of an end', () => {
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

  for (const [name, { script, config, signal, state, reason }] of Object.entries(cases)) {
    test(name, async () => {
      const id = uniqueId('reason');
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (spec) => {
        spec.linux['cgroupsPath'] = `/${id}`;
        config?.(spec);
      });
      const started = Date.now();
      await grpc.create(id, bundle);
      const wait = grpc.wait(id);
      await grpc.start(id);
      if (signal !== undefined) await grpc.kill(id, signal);
      assert.equal(await wait, state.status);
      const { exit } = JSON.parse(await wherry.must(['state', id], { timeout })) as { exit: Exit };
      const { time, ...rest } = exit;
      assert.deepEqual(rest, state);
      assert.ok(Date.parse(time) >= started - 1000 && Date.parse(time) <= Date.now() + 1000, time);
      const listed = await grpc.container(id);
      assert.equal(listed?.exit?.reason, reason);
      assert.equal(listed.exit.status, state.status);
      assert.equal(listed.exit.signal, state.signal ?? 0);
      assert.equal(listed.exit.exitedAt?.toISOString(), new Date(time).toISOString());
      assert.equal(Number(listed.oomKills), state.oomKills ?? 0);
      assert.equal(listed.oomCgroup, state.oomCgroup ?? '');
      await grpc.delete(id);
    });
  }
});
