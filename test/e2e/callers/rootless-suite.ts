/** What podman does as an ordinary user, of any version: Wherry is called in podman's user namespace, where no daemon of the node could act. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { eventually } from '../../support/run.ts';
import { firstTime } from '../../support/trixie.ts';
import { RootlessPodman, type Suite } from './rootless.ts';

export function rootlessPodman(name: string, suite: Suite): void {
  describe(name, { timeout: firstTime }, () => {
    let podman: RootlessPodman;
    before(
      async () => {
        podman = await RootlessPodman.start(suite);
      },
      { timeout: firstTime },
    );
    after(() => podman?.[Symbol.asyncDispose]());

    const shell = (script: string, flags: readonly string[] = []) =>
      podman.container(['--rm', ...flags], ['/bin/sh', '-c', script]);

    test('root inside is the user outside; exit code and output', async () => {
      const result = await shell('id -u; echo err >&2; touch /tmp/x && exit 4');
      assert.equal(result.code, 4, result.stderr);
      assert.equal(result.stdout, '0\n');
      assert.match(result.stderr, /err\n$/);
    });

    test('/dev has the usual devices', async () => {
      const result = await shell(
        'for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; echo x > /dev/null',
      );
      assert.deepEqual({ code: result.code, stdout: result.stdout }, { code: 0, stdout: '' }, result.stderr);
    });

    test("the user's own id inside (keep-id)", async () => {
      assert.equal((await shell('id -u; id -g', ['--userns', 'keep-id'])).stdout, '4242\n4242\n');
    });

    test('a terminal, and a network of its own', async () => {
      assert.match((await shell('tty', ['-t'])).stdout, /^\/dev\/pts\/0\s*$/);
      assert.match(
        (await shell('ip -o link', ['--network', 'none'])).stdout,
        /^1: lo: <LOOPBACK,UP,LOWER_UP>/,
      );
    });

    test('a program that is not there: 127', async () => {
      assert.equal((await podman.container(['--rm'], ['/not/there'])).code, 127);
    });

    test('in the background: logs, exec, stop, start, kill, rm', async () => {
      const script = 'trap "exit 7" TERM; echo started; while :; do sleep 0.05; done';
      const started = await podman.container(['-d', '--name', 'life'], ['/bin/sh', '-c', script]);
      assert.equal(started.code, 0, started.stderr);
      await eventually(
        'its first words',
        async () => (await podman.must(['logs', 'life'])).includes('started') || undefined,
      );
      const pid = await podman.must(['inspect', '--format', '{{.State.Pid}}', 'life']);
      assert.equal(statSync(`/proc/${pid}`).uid, 4242);
      const exec = await podman.run(['exec', 'life', '/bin/sh', '-c', 'echo in; exit 5']);
      assert.deepEqual([exec.code, exec.stdout], [5, 'in\n']);
      await podman.must(['stop', '-t', '20', 'life']);
      assert.equal(await podman.must(['inspect', '--format', '{{.State.ExitCode}}', 'life']), '7');
      await podman.must(['start', 'life']);
      await podman.must(['kill', 'life']);
      assert.equal(await podman.must(['wait', 'life']), '137');
      await podman.must(['rm', 'life']);
    });

    test("podman's own network by pasta: a server of the host is reached", {
      skip:
        (suite === 'bookworm' && 'it has none yet') ||
        (!existsSync('/dev/net/tun') && 'no /dev/net/tun here'),
    }, async () => {
      const server = createServer((socket) => socket.end('hello from the host\n'));
      await new Promise<void>((resolve) => server.listen(0, resolve));
      const { port } = server.address() as { port: number };
      try {
        const script = `nc host.containers.internal ${port} < /dev/null; readlink /proc/self/ns/net`;
        const { stdout, stderr } = await shell(script, ['--network', 'pasta']);
        assert.match(stdout, /^hello from the host\nnet:\[\d+\]\n$/, stderr);
        assert.ok(!stdout.includes(readlinkSync('/proc/self/ns/net')));
      } finally {
        server.close();
      }
    });

    test('healthcheck; exec with a terminal', async () => {
      const flags = ['--health-cmd', 'test -e /tmp/well', '--health-interval', 'disable'];
      const started = await podman.container(['-d', '--name', 'health', ...flags], ['/bin/sleep', '1000']);
      assert.equal(started.code, 0, started.stderr);
      assert.equal((await podman.run(['healthcheck', 'run', 'health'])).code, 1);
      await podman.must(['exec', 'health', '/bin/touch', '/tmp/well']);
      assert.equal((await podman.run(['healthcheck', 'run', 'health'])).code, 0);
      assert.match(
        await podman.must(['exec', '-t', 'health', '/bin/sh', '-c', 'test -t 1 && tty']),
        /^\/dev\/pts\//,
      );
      await podman.must(['rm', '--force', '--time', '0', 'health']);
    });

    test('no daemon was started, no state stays', () => {
      if (process.env['CALLERS_RUNTIME'] !== undefined) return;
      const run = join(podman.folder, 'xdg/wherry');
      assert.ok(!existsSync(join(run, 'keel.sock')));
      assert.deepEqual(readdirSync(join(run, 'daemonless/containers/local/default')), []);
    });
  });
}
