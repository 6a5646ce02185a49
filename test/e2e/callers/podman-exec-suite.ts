/** What podman does to a container that runs, of any version, and its builds. Each test file runs all of it. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupFile } from '../../support/cgroups.ts';
import { imageName } from '../../support/image.ts';
import { firstTime } from '../../support/trixie.ts';
import { Podman, type PodmanOptions } from './podman.ts';

export function podmanExecBehaviours(name: string, options: PodmanOptions): void {
  describe(name, { timeout: firstTime }, () => {
    let podman: Podman;
    before(
      async () => {
        podman = await Podman.start({ ...options, runtime: process.env['CALLERS_RUNTIME'] });
        const script = 'trap "exit 0" TERM; while :; do sleep 0.05; done';
        await podman.detached('c', ['/bin/sh', '-c', script]);
      },
      { timeout: firstTime },
    );
    after(() => podman?.[Symbol.asyncDispose]());

    test('exec: output, error output, exit code, standard input', async () => {
      const result = await podman.run(['exec', 'c', '/bin/sh', '-c', 'echo out; echo err >&2; exit 5']);
      assert.deepEqual(result, { code: 5, stdout: 'out\n', stderr: 'err\n' });
      assert.equal(await podman.must(['exec', '-i', 'c', '/bin/cat'], { input: 'given' }), 'given');
    });

    test('exec: user, work folder, environment', async () => {
      const flags = ['--user', '65534:65534', '--workdir', '/tmp', '--env', 'X=1'];
      const output = await podman.must([
        'exec',
        ...flags,
        'c',
        '/bin/sh',
        '-c',
        'id -u; id -g; pwd; echo $X',
      ]);
      assert.equal(output, '65534\n65534\n/tmp\n1');
    });

    test('exec with a terminal', async () => {
      assert.match(await podman.must(['exec', '-t', 'c', 'tty']), /^\/dev\/pts\/\d+\s*$/);
    });

    test('exec of what is not there, or is no program: 127 and 126', async () => {
      for (const [program, code] of [
        ['/not/there', 127],
        ['not-there', 127],
        ['/etc', 126],
      ] as const) {
        const result = await podman.run(['exec', 'c', program]);
        assert.equal(result.code, code, `${program}: ${result.stderr}`);
      }
    });

    test('exec in the background, seen by top', async () => {
      await podman.must(['exec', '-d', 'c', '/bin/sleep', '1234']);
      assert.match(await podman.must(['top', 'c', 'pid', 'args']), /\/bin\/sleep 1234/);
      assert.match(await podman.must(['top', 'c', '-o', 'pid,args']), /\/bin\/sleep 1234/);
    });

    test('pause and unpause', async () => {
      const pid = Number(await podman.inspect('c', '{{.State.Pid}}'));
      const frozen = () =>
        cgroupFile(pid, 'freezer', 'freezer.state') ?? cgroupFile(pid, '', 'cgroup.freeze');
      await podman.must(['pause', 'c']);
      assert.equal(await podman.inspect('c', '{{.State.Status}}'), 'paused');
      assert.match(frozen() ?? '', /^(FROZEN|1)$/);
      await podman.must(['unpause', 'c']);
      assert.match(frozen() ?? '', /^(THAWED|0)$/);
      assert.equal(await podman.must(['exec', 'c', '/bin/echo', 'awake']), 'awake');
    });

    test('update changes the limits', async () => {
      await podman.must(['update', '--memory', '128m', '--cpu-shares', '512', 'c']);
      const pid = Number(await podman.inspect('c', '{{.State.Pid}}'));
      const memory =
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max');
      assert.equal(memory, String(128 << 20));
      if (cgroupFile(pid, 'cpu', 'cpu.shares') !== undefined)
        assert.equal(cgroupFile(pid, 'cpu', 'cpu.shares'), '512');
    });

    test('stats', async () => {
      const stats = JSON.parse(await podman.must(['stats', '--no-stream', '--format', 'json', 'c']));
      assert.equal(stats[0].name, 'c');
      assert.ok(Number(stats[0].pids) >= 1, JSON.stringify(stats));
    });

    test('cp into the container and out of it', async () => {
      await podman.must(['cp', `${podman.folder}/policy.json`, 'c:/tmp/given']);
      assert.match(await podman.must(['exec', 'c', 'cat', '/tmp/given']), /insecureAcceptAnything/);
    });

    test('healthcheck run: the exit code of the check', async () => {
      for (const [name, command, code] of [
        ['healthy', '/bin/true', 0],
        ['ill', '/bin/false', 1],
      ] as const) {
        await podman.detached(
          name,
          ['/bin/sleep', '1000'],
          ['--health-cmd', command, '--health-interval', 'disable'],
        );
        assert.equal((await podman.run(['healthcheck', 'run', name])).code, code);
        await podman.must(['rm', '--force', '--time', '0', name]);
      }
    });

    test('a paused container can be killed', async () => {
      await podman.detached('frozen', ['/bin/sleep', '1000']);
      await podman.must(['pause', 'frozen']);
      await podman.must(['rm', '--force', '--time', '0', 'frozen']);
      assert.doesNotMatch(await podman.must(['ps', '-a', '--format', '{{.Names}}']), /frozen/);
    });

    test('a build with RUN steps', async () => {
      const context = join(podman.folder, 'context');
      mkdirSync(context);
      const steps = [
        'ENV COLOUR=blue',
        'RUN echo $COLOUR > /made; id -u',
        'USER 65534',
        'RUN echo spoken by $(id -u)',
      ];
      writeFileSync(join(context, 'Containerfile'), [`FROM ${imageName}`, ...steps, ''].join('\n'));
      const flags = ['--isolation', 'oci', '--network', 'host', '--pull=never', '--layers=false'];
      const policy = ['--signature-policy', join(podman.folder, 'policy.json')];
      const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096'];
      const built = await podman.must(['build', ...flags, ...policy, ...limits, '-t', 'built', context]);
      assert.match(built, /^spoken by 65534$/m);
      assert.equal(
        await podman.must(['run', '--rm', '--cgroup-parent', podman.cgroupParent, 'built', 'cat', '/made']),
        'blue',
      );
    });
  });
}
