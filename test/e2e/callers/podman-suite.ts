/** What podman does with containers, of any version: a container's life through conmon. Each test file runs all of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFile, cgroupRoots } from '../../support/cgroups.ts';
import { imageName } from '../../support/image.ts';
import { eventually } from '../../support/run.ts';
import { firstTime } from '../../support/trixie.ts';
import { Podman, type PodmanOptions } from './podman.ts';

export function podmanBehaviours(name: string, options: PodmanOptions): void {
  const runtime = process.env['CALLERS_RUNTIME'];
  describe(name, { timeout: firstTime }, () => {
    let podman: Podman;
    before(
      async () => {
        podman = await Podman.start({ ...options, runtime });
      },
      { timeout: firstTime },
    );
    after(() => podman?.[Symbol.asyncDispose]());

    const shell = (script: string, flags: readonly string[] = []) =>
      podman.container(['--rm', ...flags], ['/bin/sh', '-c', script]);
    const logs = async (name: string, text: string): Promise<string> =>
      eventually(`${name} says "${text}"`, async () => {
        const output = await podman.must(['logs', name]);
        return output.includes(text) ? output : undefined;
      });

    test('output, error output and the exit code of the program', async () => {
      const result = await shell('echo out; echo err >&2; exit 3');
      assert.deepEqual(result, { code: 3, stdout: 'out\n', stderr: 'err\n' });
    });

    test('a conmon whose command started keel does not wait for it', async () => {
      await podman.stopDaemon();
      const file = join(podman.folder, 'conmon.pid');
      await podman.detached('first', ['/bin/sleep', '1000'], ['--rm', '--conmon-pidfile', file]);
      const conmon = Number(readFileSync(file, 'utf8'));
      await podman.must(['kill', '--signal', 'KILL', 'first']);
      await eventually('conmon has ended', () => !existsSync(`/proc/${conmon}`) || undefined);
      if (runtime === undefined)
        assert.ok(existsSync(join(podman.runDir, 'keel.sock')), 'keel has ended with it');
      assert.equal(await podman.runtimeList(), '');
    });

    test('standard input', async () => {
      const result = await podman.container(['--rm', '-i'], ['/bin/cat'], { input: 'given\n' });
      assert.deepEqual(result, { code: 0, stdout: 'given\n', stderr: '' });
    });

    test('a program that is not there, or is none: 127 and 126', async () => {
      for (const [program, code] of [
        ['/not/there', 127],
        ['not-there', 127],
        ['/etc', 126],
        ['/etc/passwd', 126],
      ] as const) {
        const result = await podman.container(['--rm'], [program]);
        assert.equal(result.code, code, `${program}: ${result.stderr}`);
      }
      assert.equal((await podman.must(['ps', '-a', '-q'])) + (await podman.runtimeList()), '');
    });

    test("podman's own mistakes stay its own: 125", async () => {
      assert.equal((await podman.container(['--rm', '--no-such-flag'], ['/bin/true'])).code, 125);
    });

    test('a container in the background: logs, stop, start again, kill, wait, rm', async () => {
      const script = 'trap "echo bye; exit 7" TERM; echo started; while :; do sleep 0.05; done';
      await podman.detached('life', ['/bin/sh', '-c', script]);
      await logs('life', 'started');
      assert.equal(await podman.inspect('life', '{{.State.Status}}'), 'running');
      const pid = Number(await podman.inspect('life', '{{.State.Pid}}'));
      assert.ok(existsSync(`/proc/${pid}`));
      await podman.must(['stop', '-t', '20', 'life']);
      assert.equal(await podman.inspect('life', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 7');
      assert.match(await podman.must(['logs', 'life']), /started\nbye/);
      await podman.must(['start', 'life']);
      await podman.must(['kill', '--signal', 'KILL', 'life']);
      assert.equal(await podman.must(['wait', 'life']), '137');
      await podman.must(['rm', 'life']);
      assert.equal(await podman.runtimeList(), '');
    });

    test('a program that ignores the signal of stop is killed', async () => {
      await podman.detached('stubborn', [
        '/bin/sh',
        '-c',
        'trap "" TERM; echo ready; while :; do sleep 0.05; done',
      ]);
      await logs('stubborn', 'ready');
      await podman.must(['stop', '-t', '0', 'stubborn']);
      assert.equal(await podman.inspect('stubborn', '{{.State.ExitCode}}'), '137');
      await podman.must(['rm', 'stubborn']);
    });

    test('rm --force of a running container leaves nothing', async () => {
      const id = await podman.detached('forced', ['/bin/sleep', '1000']);
      const pid = Number(await podman.inspect('forced', '{{.State.Pid}}'));
      await podman.must(['rm', '--force', '--time', '0', 'forced']);
      await eventually('its init is gone', () => !existsSync(`/proc/${pid}`) || undefined);
      assert.ok(!(await podman.runtimeList()).includes(id));
      assert.ok(!existsSync(`/sys/fs/cgroup/pids${podman.cgroupParent}/libpod-${id}`));
    });

    test('create, init, start -a: the container waits for its start', async () => {
      await podman.must([
        'create',
        '--name',
        'staged',
        '--cgroup-parent',
        podman.cgroupParent,
        imageName,
        '/bin/echo',
        'run',
      ]);
      await podman.must(['init', 'staged']);
      assert.match(await podman.inspect('staged', '{{.State.Status}}'), /created|initialized/);
      assert.equal(await podman.must(['start', '-a', 'staged']), 'run');
      await podman.must(['rm', 'staged']);
    });

    test('a terminal, kept by conmon', async () => {
      const result = await shell('test -t 0 && test -t 1 && tty && ls -l /dev/console', ['-t']);
      assert.equal(result.code, 0, result.stdout + result.stderr);
      assert.match(result.stdout, /^\/dev\/pts\/0\r\n.*136, *0.*\/dev\/console\r\n$/);
    });

    test('limits reach the cgroup', async () => {
      await podman.detached('limited', ['/bin/sleep', '1000'], ['--memory', '64m', '--pids-limit', '50']);
      const pid = Number(await podman.inspect('limited', '{{.State.Pid}}'));
      const memory =
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max');
      assert.equal(memory, String(64 << 20));
      assert.equal(cgroupFile(pid, 'pids', 'pids.max'), '50');
      await podman.must(['rm', '--force', '--time', '0', 'limited']);
    });

    test('no cgroups of its own', async () => {
      const started = await podman.run([
        ...['run', '-d', '--name', 'free', '--cgroups', 'disabled', imageName, '/bin/sleep', '1000'],
      ]);
      assert.equal(started.code, 0, started.stderr);
      const id = started.stdout.trim();
      assert.deepEqual(
        cgroupRoots().filter((root) => existsSync(join(root, `libpod-${id}`))),
        [],
      );
      assert.equal((await podman.run(['exec', 'free', '/bin/true'])).code, 0);
      await podman.must(['stop', '-t', '0', 'free']);
      assert.equal(await podman.inspect('free', '{{.State.ExitCode}}'), '137');
      await podman.must(['rm', 'free']);
    });

    test('user, hostname, environment, work folder, limits of the process', async () => {
      const flags = ['--user', '65534:65534', '--hostname', 'boat', '--env', 'A=b', '--workdir', '/tmp'];
      const result = await shell('id -u; id -g; hostname; echo $A; pwd; ulimit -n', [
        ...flags,
        '--ulimit',
        'nofile=77:78',
        '--ulimit',
        'nproc=4096:4096',
      ]);
      assert.equal(result.stdout, '65534\n65534\nboat\nb\n/tmp\n77\n', result.stderr);
    });

    test('capabilities, no new privileges, a seccomp filter', async () => {
      const script = 'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "\\t" " "';
      const result = await shell(script, ['--cap-drop', 'all', '--security-opt', 'no-new-privileges']);
      assert.equal(
        result.stdout,
        'CapEff: 0000000000000000\nCapBnd: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n',
        result.stderr,
      );
      const privileged = await shell('grep Seccomp: /proc/self/status; ls /dev/full', ['--privileged']);
      assert.equal(privileged.stdout, 'Seccomp:\t0\n/dev/full\n', privileged.stderr);
    });

    test('volumes and devices', async () => {
      const flags = [
        '--volume',
        `${podman.folder}/policy.json:/given:ro`,
        '--device',
        '/dev/null:/dev/nothing',
      ];
      const result = await shell('head -c 10 /given; echo; echo x > /given; ls -l /dev/nothing', flags);
      assert.match(result.stdout, /^\{"default"\n.*1, *3.*\/dev\/nothing\n$/);
      assert.match(result.stderr, /Read-only file system/);
    });

    test('no network: only lo, and it is up', async () => {
      const result = await shell('ip -o link; ping -c 1 -W 1 127.0.0.1 > /dev/null && echo pong', [
        '--network',
        'none',
        // podman 5 gives it to nobody.
        '--cap-add',
        'NET_RAW',
      ]);
      assert.match(result.stdout, /^1: lo: <LOOPBACK,UP,LOWER_UP>.*\npong\n$/);
    });

    test("the host's namespaces", async () => {
      const result = await shell('hostname; test $$ -ne 1 && echo many', [
        '--pid',
        'host',
        '--uts',
        'host',
        '--ipc',
        'host',
      ]);
      assert.match(result.stdout, /\nmany\n$/, result.stderr);
    });
  });
}
