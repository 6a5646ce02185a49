/** The command line without a daemon: asked for by WHERRY_DAEMON=0, and where wherryd could not act for the caller. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { allCgroups } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, run } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

const looping = ['/bin/sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'];

describe('without a daemon', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry({ WHERRY_DAEMON: '0' });
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  const states = (): string[] => {
    const folder = join(wherry.runDir, 'daemonless/containers/local/default');
    return existsSync(folder) ? readdirSync(folder) : [];
  };
  const bundle = (id: string, args: readonly string[], edit: (config: SpecConfig) => void = () => {}) =>
    makeBundle(wherry.folder, id, args, (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
      edit(config);
    });
  const nothingLeft = (id: string): void => {
    assert.ok(!existsSync(join(wherry.runDir, 'keel.sock')), 'no keel was started');
    assert.deepEqual(states(), []);
    assert.deepEqual(
      allCgroups().filter((path) => path.includes(id)),
      [],
    );
  };
  const detached = () => ({ outputFile: join(wherry.folder, 'output') });
  const statusOf = async (id: string): Promise<string> => JSON.parse(await wherry.must(['state', id])).status;

  test('run: output and exit code', async () => {
    const id = uniqueId('run');
    const result = await wherry.run([
      'run',
      '-b',
      await bundle(id, ['/bin/sh', '-c', 'echo out; echo err >&2; exit 5']),
      id,
    ]);
    assert.deepEqual(result, { code: 5, stdout: 'out\n', stderr: 'err\n' });
    nothingLeft(id);
  });

  test('create, state, list, exec, start, pause, resume, kill, delete: each a process of its own', async () => {
    const id = uniqueId('life');
    const pidFile = join(wherry.folder, 'pid');
    await wherry.must(['create', '--pid-file', pidFile, '-b', await bundle(id, looping), id], detached());
    assert.equal(await statusOf(id), 'created');
    const pid = Number(readFileSync(pidFile, 'utf8'));
    assert.equal(JSON.parse(await wherry.must(['state', id])).pid, pid);
    await wherry.must(['start', id]);
    assert.equal(await statusOf(id), 'running');
    assert.match(await wherry.must(['list']), new RegExp(`^${id} +${pid} +running`, 'm'));
    const exec = await wherry.run(['exec', id, '/bin/sh', '-c', 'echo inside; exit 6']);
    assert.deepEqual(exec, { code: 6, stdout: 'inside\n', stderr: '' });
    await wherry.must(['pause', id]);
    assert.equal(await statusOf(id), 'paused');
    await wherry.must(['resume', id]);
    assert.ok((JSON.parse(await wherry.must(['ps', '--format', 'json', id])) as number[]).includes(pid));
    const refused = await wherry.run(['delete', id]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /cannot delete container .* that is not stopped: running/);
    await wherry.must(['kill', id, 'KILL']);
    await eventually('it is stopped', async () => (await statusOf(id)) === 'stopped' || undefined);
    assert.match((await wherry.run(['kill', id])).stderr, /container not running/);
    await wherry.must(['delete', id]);
    nothingLeft(id);
  });

  test('delete --force of a running container', async () => {
    const id = uniqueId('force');
    await wherry.must(['run', '-d', '-b', await bundle(id, looping), id], detached());
    await wherry.must(['delete', '--force', id]);
    nothingLeft(id);
  });

  test('--root holds the state where the caller wants it', async () => {
    const id = uniqueId('root');
    const root = ['--root', join(wherry.folder, 'states')];
    await wherry.must([...root, 'run', '-d', '-b', await bundle(id, looping), id], detached());
    assert.ok(existsSync(join(wherry.folder, 'states', id, 'state.json')));
    assert.equal(await wherry.must([...root, 'list', '-q']), `${id}\n`);
    assert.equal(await wherry.must(['list', '-q']), '');
    await wherry.must([...root, 'delete', '-f', id]);
    assert.deepEqual(readdirSync(join(wherry.folder, 'states')), []);
    nothingLeft(id);
  });

  test('a process that only has the number of the init is not the init', async () => {
    const id = uniqueId('recycled');
    await wherry.must(['run', '-d', '-b', await bundle(id, looping), id], detached());
    const file = join(wherry.runDir, 'daemonless/containers/local/default', id, 'state.json');
    const stored = readFileSync(file, 'utf8');
    const other = (_: string, name: string, time: string): string =>
      `${name}${'1'.padStart(time.length, '0')}`;
    writeFileSync(file, stored.replace(/("startTime":")(\d+)/, other));
    assert.equal(await statusOf(id), 'stopped');
    assert.match((await wherry.run(['kill', id, 'KILL'])).stderr, /container not running/);
    writeFileSync(file, stored);
    assert.equal(await statusOf(id), 'running');
    await wherry.must(['delete', '-f', id]);
    nothingLeft(id);
  });

  test('a container that cannot be made leaves nothing', async () => {
    const id = uniqueId('bad');
    const result = await wherry.run(['run', '-b', await bundle(id, ['/not/there']), id]);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /exec: "\/not\/there": stat \/not\/there: no such file or directory/);
    nothingLeft(id);
  });

  test('signals of the caller reach the container', async () => {
    const id = uniqueId('signal');
    const child = spawn(wherry.command, ['run', '-b', await bundle(id, looping), id], {
      env: wherry.env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGTERM');
    assert.equal(await ended, 9);
    nothingLeft(id);
  });

  test('launch', async () => {
    const result = await wherry.run(['launch', '--', '/bin/echo', 'cast off']);
    assert.deepEqual(result, { code: 0, stdout: 'cast off\n', stderr: '' });
  });

  test('daemon commands say what is so', async () => {
    assert.equal((await wherry.run(['daemon', 'status'])).code, 3);
  });

  test('a caller that may not start the daemon of the node is served all the same', async () => {
    const id = uniqueId('narrow');
    const { WHERRY_DAEMON: _, ...env } = wherry.env;
    const command = [
      wherry.command,
      'run',
      '-b',
      await bundle(id, ['/bin/grep', 'NoNewPrivs', '/proc/self/status']),
    ];
    const result = await run('setpriv', ['--no-new-privs', ...command, id], { env });
    assert.equal(result.stdout, 'NoNewPrivs:\t1\n', result.stderr);
    nothingLeft(id);
  });
});

describe('a caller in other namespaces than wherryd', () => {
  let wherry: Wherry;
  before(async () => {
    wherry = new Wherry();
    await wherry.must(['list']);
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  test('mounts: what only the caller sees is what is run', async () => {
    const id = uniqueId('mnt');
    const template = await makeBundle(wherry.folder, id, ['/bin/cat', '/seen']);
    const hidden = join(wherry.folder, 'hidden');
    mkdirSync(hidden);
    const script =
      'mount -t tmpfs none "$1" && cp -a "$2/." "$1" && echo "from the caller" > "$1/rootfs/seen" && exec "$3" run -b "$1" "$4"';
    const flags = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'];
    const result = await run('unshare', [...flags, hidden, template, wherry.command, id], {
      env: wherry.env,
    });
    assert.deepEqual(result, { code: 0, stdout: 'from the caller\n', stderr: '' });
    assert.equal(await wherry.must(['list', '-q']), '');
  });

  test('process ids: the pid file has the number that the caller knows', async () => {
    const id = uniqueId('pid');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000']);
    const script =
      '"$1" create --pid-file "$2/own.pid" -b "$3" "$4" < /dev/null > "$2/out" 2>&1; cat "$2/own.pid"; kill -0 "$(cat "$2/own.pid")" && echo " alive"; "$1" delete --force "$4"';
    const flags = ['--pid', '--fork', '--mount-proc', 'sh', '-c', script, 'sh'];
    const result = await run('unshare', [...flags, wherry.command, wherry.folder, bundle, id], {
      env: wherry.env,
    });
    assert.match(
      result.stdout,
      /^\d{1,2} alive\n$/,
      result.stderr + readFileSync(join(wherry.folder, 'out'), 'utf8'),
    );
    assert.equal(await wherry.must(['list', '-q']), '');
  });

  test('the same namespaces: wherryd serves', async () => {
    const id = uniqueId('same');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000']);
    await wherry.must(['run', '-d', '-b', bundle, id], { outputFile: join(wherry.folder, 'out') });
    assert.equal(await wherry.must(['list', '-q']), `${id}\n`);
    await wherry.must(['delete', '-f', id]);
  });
});
