/** What docker does with containers, of any version and with Wherry as a shim or as a command line; each test file runs all of it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFile } from '../../support/cgroups.ts';
import { eventually } from '../../support/run.ts';
import { firstTime } from '../../support/trixie.ts';
import { Docker, type DockerOptions } from './docker.ts';

export function dockerBehaviours(name: string, options: DockerOptions): void {
  describe(name, { timeout: firstTime }, () => {
    let docker: Docker;
    before(
      async () => {
        docker = await Docker.start({ ...options, runtime: process.env['CALLERS_RUNTIME'] });
      },
      { timeout: firstTime },
    );
    after(() => docker?.[Symbol.asyncDispose]());

    const shell = (script: string, flags: readonly string[] = []) =>
      docker.container(['--rm', ...flags], ['/bin/sh', '-c', script]);
    const inspect = (name: string, format: string) => docker.must(['inspect', '--format', format, name]);

    test('output, error output and the exit code of the program', async () => {
      assert.deepEqual(await shell('echo out; echo err >&2; exit 3'), {
        code: 3,
        stdout: 'out\n',
        stderr: 'err\n',
      });
      if (process.env['CALLERS_RUNTIME'] === undefined)
        assert.ok(existsSync(join(docker.runDir, 'keel.sock')));
    });

    test('standard input, and a terminal', async () => {
      const result = await docker.container(['--rm', '-i'], ['/bin/cat'], { input: 'given\n' });
      assert.deepEqual(result, { code: 0, stdout: 'given\n', stderr: '' });
      assert.match((await docker.container(['--rm', '-t'], ['tty'])).stdout, /^\/dev\/pts\/0\s*$/);
    });

    test('a program that is not there, or is none: 127 and 126', async () => {
      for (const [program, code] of [
        ['/not/there', 127],
        ['not-there', 127],
        ['/etc', 126],
      ] as const) {
        const result = await docker.container(['--rm'], [program]);
        assert.equal(result.code, code, `${program}: ${result.stderr}`);
      }
    });

    test('what neither docker nor the runtime can do: 125', async () => {
      assert.equal((await docker.container(['--rm', '--no-such-flag'], ['/bin/true'])).code, 125);
      const refused = await docker.container(
        ['--rm', '--sysctl', 'net.ipv4.ip_forward=no-number'],
        ['/bin/true'],
      );
      assert.equal(refused.code, 125, refused.stderr);
      assert.match(refused.stderr, /ip_forward/);
      assert.equal(await docker.must(['ps', '-a', '-q']), '');
    });

    test('a container in the background: logs, exec, top, stats, pause, update, stop, start, kill', async () => {
      const script = 'trap "echo bye; exit 7" TERM; echo started; while :; do sleep 0.05; done';
      const started = await docker.container(
        ['-d', '--name', 'life', '--memory', '64m'],
        ['/bin/sh', '-c', script],
      );
      assert.equal(started.code, 0, started.stderr);
      await eventually(
        'its first words',
        async () => (await docker.must(['logs', 'life'])).includes('started') || undefined,
      );
      const pid = Number(await inspect('life', '{{.State.Pid}}'));
      const memory = () =>
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max');
      assert.equal(memory(), String(64 << 20));

      assert.deepEqual(await docker.run(['exec', 'life', '/bin/sh', '-c', 'echo in; echo err >&2; exit 5']), {
        code: 5,
        stdout: 'in\n',
        stderr: 'err\n',
      });
      assert.equal(await docker.must(['exec', '-i', 'life', '/bin/cat'], { input: 'given' }), 'given');
      assert.match(await docker.must(['exec', '-t', 'life', 'tty']), /^\/dev\/pts\/\d+\s*$/);
      const flags = ['--user', '65534', '--workdir', '/tmp', '--env', 'A=b'];
      assert.equal(
        await docker.must(['exec', ...flags, 'life', '/bin/sh', '-c', 'id -u; pwd; echo $A']),
        '65534\n/tmp\nb',
      );
      assert.equal((await docker.run(['exec', 'life', '/not/there'])).code, 126);
      assert.match(await docker.must(['top', 'life']), /echo started/);
      assert.match(
        await docker.must(['stats', '--no-stream', '--format', '{{.Name}} {{.MemUsage}} {{.PIDs}}', 'life']),
        /^life .* \/ 64MiB [1-9]/,
      );

      await docker.must(['pause', 'life']);
      assert.equal(await inspect('life', '{{.State.Status}}'), 'paused');
      await docker.must(['unpause', 'life']);
      await docker.must(['update', '--memory', '128m', '--memory-swap', '256m', 'life']);
      assert.equal(memory(), String(128 << 20));

      await docker.must(['stop', '--time', '20', 'life']);
      assert.equal(await inspect('life', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 7');
      assert.match(await docker.must(['logs', 'life']), /started\nbye/);
      await docker.must(['start', 'life']);
      await docker.must(['kill', 'life']);
      assert.equal(await docker.must(['wait', 'life']), '137');
      await docker.must(['rm', 'life']);
    });

    test('nothing is left of containers that were removed', () => {
      assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(`${docker.folder}/exec/containerd`));
      assert.ok(!existsSync(join(docker.folder, 'exec/runtime-runc/moby/life')));
    });
  });
}
