/** podman as an ordinary user with systemd's cgroup manager: it calls from a user namespace, and the unit is the user's manager's. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CallerPrograms, loadImage } from '../e2e/callers/packages.ts';
import { giveTo } from '../integration/oci-suite/host.ts';
import { peers } from '../support/debs.ts';
import { imageName, writeImage } from '../support/image.ts';
import { wherryBinary } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { ManagedUser } from './managed-user.ts';

const timeout = 90_000;

describe('podman of an ordinary user with systemd', () => {
  let user: ManagedUser;
  let command: string[];
  let env: NodeJS.ProcessEnv;
  before(async () => {
    user = await ManagedUser.open();
    const folder = join(user.folder, 'home/podman');
    for (const name of ['root', 'run', 'tmp', 'bin']) mkdirSync(join(folder, name), { recursive: true });
    const programs = await CallerPrograms.open();
    const conmon = programs.script(join(folder, 'bin/conmon'), programs.path('conmon'), {});
    const podman = programs.script(join(folder, 'bin/podman'), programs.path('podman'), {});
    const conf = [
      ...['[containers]', 'netns = "host"', 'log_driver = "k8s-file"', '[engine]'],
      ...[`conmon_path = ["${conmon}"]`, 'events_logger = "file"', 'lock_type = "file"'],
      'cgroup_manager = "systemd"',
    ];
    writeFileSync(join(folder, 'containers.conf'), conf.join('\n'));
    writeFileSync(
      join(folder, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/root"\nrunroot = "${folder}/run"\nrootless_storage_path = "${folder}/root"\n`,
    );
    writeFileSync(join(folder, 'policy.json'), '{"default": [{"type": "insecureAcceptAnything"}]}');
    await writeImage((await peers(['bookworm'])).busybox, join(folder, 'image.tar'));
    giveTo(folder, user.uid);
    env = {
      ...user.env,
      CONTAINERS_CONF: join(folder, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
    };
    command = [podman, '--root', join(folder, 'root'), '--runroot', join(folder, 'run')];
    command.push(
      '--tmpdir',
      join(folder, 'tmp'),
      '--runtime',
      process.env['CALLERS_RUNTIME'] ?? wherryBinary,
    );
    await ask(...loadImage(folder));
  });
  after(async () => {
    if (command !== undefined) {
      await run('rm', '--all', '--force', '--time', '0');
      // Its process that keeps the user namespace ends, too.
      await run('system', 'migrate');
    }
    await user?.[Symbol.asyncDispose]();
  });

  const run = (...args: string[]) => user.as([...command, ...args], { env, timeout });
  const ask = async (...args: string[]): Promise<string> => {
    const result = await run(...args);
    assert.equal(result.code, 0, `podman ${args.join(' ')}: ${result.stdout}${result.stderr}`);
    return result.stdout.trimEnd();
  };

  test('limits, exec, stats, update, stop, out of memory', async () => {
    const script = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.2; done';
    const limits = ['--memory', '64m', '--memory-swap', '64m', '--pids-limit', '40', '--cpus', '0.5'];
    const id = await ask('run', '-d', '--name', 'boat', ...limits, imageName, '/bin/sh', '-c', script);
    const unit = `libpod-${id}.scope`;
    const path = `${user.part}/user.slice/${unit}`;
    const file = (name: string): string => readFileSync(join('/sys/fs/cgroup', path, name), 'utf8').trim();
    await eventually(
      'it is ready',
      async () => (await ask('logs', 'boat')).includes('ready') || undefined,
      timeout,
    );
    const pid = await ask('inspect', '--format', '{{.State.Pid}}', 'boat');
    assert.ok(readFileSync(`/proc/${pid}/cgroup`, 'utf8').startsWith(`0::${path}`));
    assert.deepEqual(['memory.max', 'pids.max', 'cpu.max'].map(file), ['67108864', '40', '50000 100000']);
    assert.deepEqual(await user.shown(unit, 'MemoryMax', 'TasksMax', 'Delegate'), {
      ...{ Delegate: 'yes', MemoryMax: '67108864', TasksMax: '40' },
    });
    assert.equal((await run('exec', 'boat', '/bin/sh', '-c', 'exit 9')).code, 9);
    const stats = JSON.parse(await ask('stats', '--no-stream', '--format', 'json', 'boat')) as object[];
    assert.match(JSON.stringify(stats), /\/ 67\.11MB/);
    await ask('update', '--memory', '96m', '--memory-swap', '96m', 'boat');
    assert.equal(file('memory.max'), String(96 << 20));
    assert.equal((await user.shown(unit, 'MemoryMax'))['MemoryMax'], String(96 << 20));
    await ask('stop', '-t', '60', 'boat');
    assert.equal(await ask('inspect', '--format', '{{.State.ExitCode}}', 'boat'), '7');
    await ask('rm', 'boat');
    assert.equal(existsSync(join('/sys/fs/cgroup', path)), false);
    assert.equal((await user.shown(unit, 'LoadState'))['LoadState'], 'not-found');

    const hog = await run(
      'run',
      '--rm',
      '--memory',
      '24m',
      '--memory-swap',
      '24m',
      imageName,
      '/bin/tail',
      '/dev/zero',
    );
    assert.equal(hog.code, 137);
  });
});
