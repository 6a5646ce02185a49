/** podman as root with systemd's cgroup manager, its default where systemd is. systemd and the kernel are asked what became of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Podman } from '../e2e/callers/podman.ts';
import { imageName } from '../support/image.ts';
import { eventually, must } from '../support/run.ts';
import { daemonPids } from '../support/wherry.ts';

const timeout = 90_000;
const MiB = 1 << 20;
/** runc's path here shows that the test asks what is so. */
const runtime = process.env['CALLERS_RUNTIME'];

test('a container as a unit: limits, stats, exec, pause, update, stop, out of memory', async () => {
  const podman = await Podman.start({ systemd: true, runtime });
  try {
    const ask = (...args: string[]): Promise<string> => podman.must(args, { timeout });
    const script = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.2; done';
    const limits = ['--memory', '64m', '--memory-swap', '64m', '--pids-limit', '40', '--cpus', '0.5'];
    const flags = ['-d', '--name', 'boat', '--cgroupns', 'host', ...limits];
    const started = await podman.container(flags, ['/bin/sh', '-c', script], { timeout });
    assert.equal(started.code, 0, started.stderr);
    const id = started.stdout.trim();
    const unit = `libpod-${id}.scope`;
    const path = `/${podman.cgroupParent}/${unit}`;
    const file = (name: string): string => readFileSync(join('/sys/fs/cgroup', path, name), 'utf8').trim();
    const shown = async (...names: string[]): Promise<string[]> => {
      const { stdout } = await must('systemctl', ['show', unit, '-p', names.join(',')], { timeout });
      return stdout.trim().split('\n').sort();
    };
    await eventually(
      'it is ready',
      async () => (await ask('logs', 'boat')).includes('ready') || undefined,
      timeout,
    );
    const pid = await ask('inspect', '--format', '{{.State.Pid}}', 'boat');
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::${path}\n`);
    assert.equal(await ask('exec', 'boat', '/bin/cat', '/proc/self/cgroup'), `0::${path}`);
    const names = ['memory.max', 'memory.swap.max', 'pids.max', 'cpu.max'];
    assert.deepEqual(names.map(file), [String(64 * MiB), '0', '40', '50000 100000']);
    assert.deepEqual(await shown('Delegate', 'MemoryMax', 'TasksMax', 'CPUQuotaPerSecUSec', 'DevicePolicy'), [
      ...['CPUQuotaPerSecUSec=500ms', 'Delegate=yes', 'DevicePolicy=strict'],
      ...[`MemoryMax=${64 * MiB}`, 'TasksMax=40'],
    ]);
    assert.equal((await podman.run(['exec', 'boat', '/bin/sh', '-c', 'exit 9'], { timeout })).code, 9);
    const stats = await ask('stats', '--no-stream', '--format', '{{.MemUsage}}, {{.PIDS}} pids', 'boat');
    assert.match(stats, /\/ 67\.11MB, [1-9]\d* pids/);

    await ask('pause', 'boat');
    assert.equal(await ask('inspect', '--format', '{{.State.Status}}', 'boat'), 'paused');
    assert.equal(file('cgroup.freeze'), '1');
    await ask('unpause', 'boat');
    await ask('update', '--memory', '96m', '--memory-swap', '96m', '--cpus', '0.25', 'boat');
    assert.deepEqual(['memory.max', 'cpu.max'].map(file), [String(96 * MiB), '25000 100000']);
    assert.deepEqual(await shown('MemoryMax', 'CPUQuotaPerSecUSec'), [
      'CPUQuotaPerSecUSec=250ms',
      `MemoryMax=${96 * MiB}`,
    ]);
    await ask('stop', '-t', '60', 'boat');
    assert.equal(
      await ask('inspect', '--format', '{{.State.Status}} {{.State.ExitCode}}', 'boat'),
      'exited 7',
    );
    await ask('rm', 'boat');
    assert.equal(existsSync(join('/sys/fs/cgroup', path)), false);
    assert.deepEqual(await shown('LoadState'), ['LoadState=not-found']);

    const small = ['--rm', '--memory', '24m', '--memory-swap', '24m'];
    assert.equal((await podman.container(small, ['/bin/tail', '/dev/zero'], { timeout })).code, 137);
    assert.equal(await podman.runtimeList(), '');
  } finally {
    await podman[Symbol.asyncDispose]();
  }
});

test("the end of the slice whose container started keel is not keel's", async () => {
  const podman = await Podman.start({ systemd: true });
  const other = podman.cgroupParent.replace('.slice', 'b.slice');
  try {
    const keel = async (): Promise<number> => {
      const { stdout } = await must(podman.runtime, ['daemon', 'status', '--format', 'json'], { timeout });
      return daemonPids(stdout).keel;
    };
    await podman.detached('first', ['/bin/sleep', '1000']);
    const pid = await keel();
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), `0::/system.slice/wherry-keel-${pid}.scope\n`);
    const flags = ['-d', '--name', 'second', '--cgroup-parent', other];
    await podman.must(['run', ...flags, imageName, '/bin/sleep', '1000'], { timeout });
    await must('systemctl', ['kill', '--signal=KILL', podman.cgroupParent], { timeout });
    assert.equal(await keel(), pid);
    assert.equal(await podman.inspect('second', '{{.State.Status}}'), 'running');
  } finally {
    await podman[Symbol.asyncDispose]();
    await must('systemctl', ['stop', other], { timeout });
  }
});
