/**
 * What a container under containerd must do, asked through `ctr` alone. Real containerd, real kernel; the runtime is Wherry, or any other
 * by E2E_RUNTIME=io.containerd.runc.v2, which proves the tests themselves.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { cgroupFile } from '../support/cgroups.ts';
import { Containerd, type ContainerdOptions } from '../support/containerd.ts';
import type { ContainerdVersion } from '../support/debs.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, stop } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';

export const runtime = process.env['E2E_RUNTIME'] ?? 'io.containerd.wherry.v1';
export const isWherry = runtime.includes('wherry');

export function containerdSuite(
  title: string,
  version: ContainerdVersion,
  options: ContainerdOptions = {},
): void {
  describe(title, () => {
    let containerd: Containerd;
    before(async () => {
      containerd = await Containerd.start(version, options);
    });
    after(async () => {
      await containerd?.stop();
    });

    const shell = (flags: readonly string[], id: string, script: string) =>
      containerd.runContainer(runtime, flags, id, ['/bin/sh', '-c', script]);
    const task = async (id: string) => (await containerd.tasks()).get(id);
    const untilStopped = (id: string) =>
      eventually(`${id} is stopped`, async () => (await task(id))?.status === 'STOPPED' || undefined);
    const remove = async (id: string): Promise<void> => {
      await containerd.mustCtr(['task', 'rm', id]);
      await containerd.mustCtr(['container', 'rm', id]);
    };

    test('output, error output and exit code 0', async () => {
      const result = await shell(['--rm'], uniqueId('zero'), 'echo out; echo err >&2');
      assert.deepEqual(result, { code: 0, stdout: 'out\n', stderr: 'err\n' }, containerd.tail());
    });

    test('exit code 3', async () => {
      assert.equal((await shell(['--rm'], uniqueId('three'), 'exit 3')).code, 3);
    });

    test('exit code 137 after SIGKILL from outside', async () => {
      const id = uniqueId('killed');
      const running = shell(['--rm'], id, 'echo ready; exec sleep 1000');
      await eventually('the task runs', async () => (await task(id))?.status === 'RUNNING' || undefined);
      await containerd.mustCtr(['task', 'kill', '--signal', 'SIGKILL', id]);
      assert.equal((await running).code, 137);
    });

    test('a signal that the program handles', async () => {
      const id = uniqueId('term');
      const running = shell(
        ['--rm'],
        id,
        'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.1; done',
      );
      await eventually('the task runs', async () => (await task(id))?.status === 'RUNNING' || undefined);
      await handlesTerm(async () => (await task(id))?.pid ?? 0);
      await containerd.mustCtr(['task', 'kill', '--signal', 'SIGTERM', id]);
      const result = await running;
      assert.equal(result.code, 7);
      assert.equal(result.stdout, 'ready\ncaught\n');
    });

    test('standard input', async () => {
      const id = uniqueId('stdin');
      const args = [
        'run',
        '--rm',
        '--runtime',
        runtime,
        'wherry.test/busybox:latest',
        id,
        '/bin/head',
        '-n',
        '1',
      ];
      const result = await containerd.ctr(args, { input: 'one line\nanother\n' });
      assert.deepEqual([result.code, result.stdout], [0, 'one line\n'], result.stderr);
    });

    test('four MiB of output arrive whole', async () => {
      // ctr drops what it has not read when the program ends (with containerd's own shim too): so the program waits a little. That
      // the last bytes of a program that ends at once arrive is tested in grpc.test.ts, with a reader of ours.
      const script = "dd if=/dev/zero bs=1024 count=4096 2>/dev/null | tr '\\000' x; echo; echo end; sleep 1";
      const result = await shell(['--rm'], uniqueId('big'), script);
      assert.equal(result.code, 0);
      assert.equal(result.stdout.length, 4 * 1024 * 1024 + '\nend\n'.length);
      assert.ok(result.stdout.endsWith('x\nend\n'));
    });

    test('detached: ls, ps, metrics, kill, rm', async () => {
      const id = uniqueId('detached');
      await containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        'wherry.test/busybox:latest',
        id,
        '/bin/sleep',
        '1000',
      ]);
      const found = await task(id);
      assert.equal(found?.status, 'RUNNING');
      const pid = found?.pid ?? 0;
      // As with runc a start is answered a moment before the program is executed.
      await eventually(
        'its program',
        () => /sleep/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) || undefined,
      );
      const pids = (await containerd.mustCtr(['task', 'ps', id])).split('\n').slice(1);
      assert.ok(
        pids.some((line) => line.split(/\s+/)[0] === String(pid)),
        `task ps of ${pid}: ${pids.join('|')}`,
      );
      const metrics = JSON.parse(
        await containerd.mustCtr(['task', 'metrics', '--format', 'json', id]),
      ) as Record<string, unknown>;
      assert.ok(JSON.stringify(metrics).includes('"usage"'), JSON.stringify(metrics));
      await containerd.mustCtr(['task', 'kill', '--signal', 'SIGKILL', id]);
      await untilStopped(id);
      const removed = await containerd.ctr(['task', 'rm', id]);
      assert.match(removed.stderr, /exit code 137/);
      assert.equal(await task(id), undefined);
      await containerd.mustCtr(['container', 'rm', id]);
      assert.ok(!existsSync(`/proc/${pid}`));
    });

    test('a running task is not removed without force', async () => {
      const id = uniqueId('running');
      await containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        'wherry.test/busybox:latest',
        id,
        '/bin/sleep',
        '1000',
      ]);
      assert.notEqual((await containerd.ctr(['task', 'rm', id])).code, 0);
      assert.equal((await task(id))?.status, 'RUNNING');
      await containerd.ctr(['task', 'rm', '--force', id]);
      await containerd.mustCtr(['container', 'rm', id]);
      assert.equal(await task(id), undefined);
    });

    test('two containers at once', async () => {
      const both = await Promise.all(
        ['a', 'b'].map((name) =>
          shell(['--rm'], uniqueId(name), `hostname >/dev/null; echo ${name}; sleep 0.3; echo ${name}`),
        ),
      );
      assert.deepEqual(
        both.map((result) => [result.code, result.stdout]),
        [
          [0, 'a\na\n'],
          [0, 'b\nb\n'],
        ],
      );
    });

    test('a program that ends at once, ten times, then detached', async () => {
      for (let round = 0; round < 10; round += 1) {
        const result = await containerd.runContainer(runtime, ['--rm'], uniqueId('true'), ['/bin/true']);
        assert.deepEqual(result, { code: 0, stdout: '', stderr: '' }, containerd.tail());
      }
      const id = uniqueId('quick');
      const result = await containerd.runContainer(runtime, ['-d'], id, ['/bin/true']);
      assert.equal(result.code, 0, result.stderr);
      await untilStopped(id);
      await remove(id);
    });

    test('events come in order', async () => {
      const events = spawn(containerd.ctrPath, [...containerd.globalFlags, 'events'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let seen = '';
      events.stdout.on('data', (chunk: Buffer) => {
        seen += String(chunk);
      });
      try {
        // The subscription is up when the event of a container that we make shows.
        const probe = uniqueId('probe');
        await containerd.mustCtr([
          'container',
          'create',
          '--runtime',
          runtime,
          'wherry.test/busybox:latest',
          probe,
        ]);
        await eventually('the subscription is up', async () => {
          await containerd.mustCtr(['container', 'label', probe, 'probe=1']);
          return seen.includes(probe) || undefined;
        });
        await containerd.mustCtr(['container', 'rm', probe]);
        const id = uniqueId('events');
        await containerd.runContainer(runtime, ['--rm'], id, ['/bin/true']);
        const topics = await eventually('the delete event', () => {
          const found = seen.split('\n').filter((line) => line.includes(id) && line.includes('/tasks/'));
          const names = found.map((line) => /\/tasks\/([a-z-]+)/.exec(line)?.[1] ?? '');
          return names.includes('delete') ? names : undefined;
        });
        assert.deepEqual(topics, ['create', 'start', 'exit', 'delete']);
      } finally {
        await stop(events);
      }
    });

    test('memory, cpu and pids limits are in the cgroup', async () => {
      const bundle = await makeBundle(containerd.folder, 'limits', ['/bin/sleep', '1000'], (config) => {
        config.root.path = join(containerd.folder, 'limits/rootfs');
        config.linux['cgroupsPath'] = `/${containerd.namespace}/limits`;
        config.linux.resources = {
          memory: { limit: 33554432 },
          cpu: { shares: 512, quota: 50000, period: 100000 },
          pids: { limit: 17 },
        };
      });
      const id = uniqueId('limits');
      await containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        '--config',
        join(bundle, 'config.json'),
        id,
      ]);
      const pid = (await task(id))?.pid ?? 0;
      assert.equal(
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max'),
        '33554432',
      );
      assert.equal(cgroupFile(pid, 'pids', 'pids.max'), '17');
      const quota = cgroupFile(pid, 'cpu', 'cpu.cfs_quota_us');
      if (quota !== undefined) {
        assert.equal(quota, '50000');
        assert.equal(cgroupFile(pid, 'cpu', 'cpu.cfs_period_us'), '100000');
        assert.equal(cgroupFile(pid, 'cpu', 'cpu.shares'), '512');
      } else {
        assert.equal(cgroupFile(pid, 'cpu', 'cpu.max'), '50000 100000');
      }
      const metrics = await containerd.mustCtr(['task', 'metrics', '--format', 'json', id]);
      assert.ok(metrics.includes('33554432'), metrics);
      await containerd.mustCtr(['task', 'kill', '--signal', 'SIGKILL', id]);
      await untilStopped(id);
      assert.match((await containerd.ctr(['task', 'rm', id])).stderr, /exit code 137/);
      await containerd.mustCtr(['container', 'rm', id]);
    });

    test('the container is apart from the host', async () => {
      const script =
        'hostname; echo $$; ls /proc | grep -c "^[0-9]"; cat /proc/sys/kernel/hostname; id -u; ls /sys/class/net; cat /proc/self/status';
      const id = uniqueId('apart');
      const result = await shell(['--rm'], id, script);
      assert.equal(result.code, 0, result.stderr);
      const lines = result.stdout.split('\n');
      assert.equal(lines[1], '1', 'the shell is process 1');
      assert.equal(lines[4], '0');
      assert.equal(lines[5], 'lo');
      assert.match(result.stdout, /NoNewPrivs:\t1/);
      assert.match(result.stdout, /CapBnd:\t00000000a80425fb/);
    });

    test('a missing program: the error says so and nothing is left', async () => {
      const id = uniqueId('missing');
      const result = await containerd.runContainer(runtime, ['--rm'], id, ['/no/such/program']);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, /no such file or directory|executable file not found/);
      await nothingLeft(id);
    });

    test('a program that is not executable', async () => {
      const id = uniqueId('noexec');
      const result = await containerd.runContainer(runtime, ['--rm'], id, ['/etc/passwd']);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, /permission denied/i);
      await nothingLeft(id);
    });

    test('an id used twice', async () => {
      const id = uniqueId('twice');
      await containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        'wherry.test/busybox:latest',
        id,
        '/bin/sleep',
        '1000',
      ]);
      const second = await containerd.runContainer(runtime, ['--rm'], id, ['/bin/true']);
      assert.notEqual(second.code, 0);
      assert.match(second.stderr, /already exists/);
      assert.equal((await task(id))?.status, 'RUNNING');
      await containerd.ctr(['task', 'rm', '--force', id]);
      await containerd.mustCtr(['container', 'rm', id]);
    });

    test('bytes that are no ttrpc harm nobody', { skip: isWherry ? false : 'only of Wherry' }, async () => {
      const id = uniqueId('garbage');
      await containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        'wherry.test/busybox:latest',
        id,
        '/bin/sleep',
        '1000',
      ]);
      for (const bytes of malformed()) await send(shimSocket(containerd, id), bytes);
      assert.equal((await task(id))?.status, 'RUNNING');
      const other = await containerd.runContainer(runtime, ['--rm'], uniqueId('other'), [
        '/bin/echo',
        'well',
      ]);
      assert.deepEqual([other.code, other.stdout], [0, 'well\n']);
      await containerd.ctr(['task', 'rm', '--force', id]);
      await containerd.mustCtr(['container', 'rm', id]);
    });

    test('nothing of the containers is left in the state folder', async () => {
      const folder = join(containerd.folder, 'state/io.containerd.runtime.v2.task', containerd.namespace);
      await eventually(
        'bundles are removed',
        () => !existsSync(folder) || readdirSync(folder).length === 0 || undefined,
      );
    });

    /** After a failed run: no task, no bundle, and the next container runs. */
    async function nothingLeft(id: string): Promise<void> {
      assert.equal(await task(id), undefined);
      const bundle = join(containerd.folder, 'state/io.containerd.runtime.v2.task', containerd.namespace, id);
      await eventually('the bundle is gone', () => !existsSync(bundle) || undefined);
      await containerd.ctr(['container', 'rm', id]);
      const next = await containerd.runContainer(runtime, ['--rm'], uniqueId('next'), ['/bin/echo', 'next']);
      assert.deepEqual([next.code, next.stdout], [0, 'next\n'], next.stderr + containerd.tail());
    }
  });
}

/** The address that the shim left in the bundle (containerd's shim contract: file `address`). */
function shimSocket(containerd: Containerd, id: string): string {
  const bundle = join(containerd.folder, 'state/io.containerd.runtime.v2.task', containerd.namespace, id);
  const text = readFileSync(join(bundle, 'address'), 'utf8').trim();
  const address = text.startsWith('{') ? String((JSON.parse(text) as { address: string }).address) : text;
  return address.replace(/^unix:\/\//, '');
}

/** Half a header, random bytes, an oversized frame, a frame whose payload is no message, a response nobody asked for. */
function malformed(): Buffer[] {
  const header = (length: number, stream: number, type: number): Buffer => {
    const bytes = Buffer.alloc(10);
    bytes.writeUInt32BE(length, 0);
    bytes.writeUInt32BE(stream, 4);
    bytes[8] = type;
    return bytes;
  };
  return [
    Buffer.from([0, 0, 0]),
    Buffer.from('GET / HTTP/1.1\r\nHost: shim\r\n\r\n'),
    Buffer.concat([header(5 << 20, 1, 1), Buffer.alloc(5 << 20, 0xff)]),
    Buffer.concat([header(4, 1, 1), Buffer.from([0xff, 0xff, 0xff, 0xff])]),
    Buffer.concat([header(0, 2, 1), header(0, 1, 2), header(0, 1, 9)]),
  ];
}

/** Writes bytes to a socket and closes it when they are out or the peer has hung up. */
async function send(path: string, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = connect(path);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE' || error.code === 'ECONNRESET') resolve();
      else reject(error);
    });
    socket.on('close', () => resolve());
    socket.resume();
    socket.end(bytes);
  });
}
