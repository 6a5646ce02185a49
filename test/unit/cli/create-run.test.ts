/** create and run: what they ask of the runtime, and what they tell their caller. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { WherryError } from '../../../src/errors.ts';
import { Bundles, call, callAs, local, MemoryRuntime } from './support.ts';

const bundles = new Bundles();
const { folder } = bundles;
after(() => bundles.remove());

describe('create', () => {
  it('hands on the flags, with paths of the caller made absolute', async () => {
    bundles.make('flags', { terminal: true });
    const { code, runtime, err } = await call(
      [
        '--root',
        'state',
        '--systemd-cgroup',
        'create',
        '-b',
        'flags',
        '--pid-file',
        'pid',
        '--console-socket',
        'tty.sock',
        '--no-pivot',
        '--no-new-keyring',
        '--preserve-fds',
        '2',
        'x',
      ],
      { cwd: folder },
    );
    assert.equal(err, '');
    assert.equal(code, 0);
    const request = runtime.created[0]!;
    assert.deepEqual(request.key, { scope: join(folder, 'state'), namespace: 'default', id: 'x' });
    assert.equal(request.stateDir, join(folder, 'state', 'x'));
    assert.equal(request.bundle, join(folder, 'flags'));
    assert.deepEqual(
      [request.systemdCgroup, request.noPivotRoot, request.noNewKeyring, request.startAtOnce],
      [true, true, true, undefined],
    );
    const { host, ...caller } = request.caller!;
    assert.equal(host.kind, 'client');
    assert.deepEqual(caller, {
      pid: 1234,
      umask: 0o027,
      rlimits: [],
      oomScoreAdj: 0,
      nice: 0,
      network: 0n,
      consoleSize: { rows: 24, cols: 80 },
      pidFile: join(folder, 'pid'),
      consoleSocket: join(folder, 'tty.sock'),
      relayConsole: false,
      preserveFds: 2,
    });
  });

  it('descriptors of a service manager come on top, as in runc', async () => {
    const path = bundles.make('listen', { env: ['A=1'] });
    const argv = ['create', '--preserve-fds', '1', '-b', path, 'x'];
    const { runtime, config } = await call(argv, { env: { LISTEN_FDS: '2', LISTEN_PID: '1234' } });
    const { caller } = runtime.created[0]!;
    assert.equal(caller?.preserveFds, 3);
    assert.deepEqual(config?.process.env, ['A=1', 'LISTEN_FDS=2', 'LISTEN_PID=1']);
    const others = await call(argv, { env: { LISTEN_FDS: '2', LISTEN_PID: '99' } });
    assert.equal(others.runtime.created[0]!.caller?.preserveFds, 1);
  });

  const failing = (title: string, argv: () => string[], expected: () => string) =>
    it(title, async () => {
      const { code, out, err, runtime } = await call(argv(), { cwd: folder, env: { PATH: '' } });
      assert.deepEqual([code, out, err], [1, '', `${expected()}\n`]);
      assert.deepEqual(runtime.created, []);
    });
  failing(
    'without a folder',
    () => ['create', '-b', 'nowhere', 'x'],
    () =>
      'wherry create failed: chdir nowhere: no such file or directory (--bundle); name the folder that holds config.json and the root filesystem',
  );
  failing(
    'with a file for a folder',
    () => ['create', '-b', '/etc/passwd', 'x'],
    () =>
      'wherry create failed: chdir /etc/passwd: not a directory (--bundle); name the folder that holds config.json and the root filesystem',
  );
  failing(
    'without config.json',
    () => ['create', '-b', '/proc/self/fdinfo', 'x'],
    () =>
      'wherry create failed: JSON specification file config.json not found (--bundle); there is no /proc/self/fdinfo/config.json; "wherry spec" writes one to start from, --bundle names another folder',
  );
  failing(
    'with a terminal and nobody to take it',
    () => ['create', '-b', 'flags', 'x'],
    () =>
      'wherry create failed: cannot allocate tty if wherry will detach without setting console socket (process.terminal); give --console-socket, or set process.terminal to false',
  );

  it('a bad config.json is told with its fields', async () => {
    const path = bundles.make('bad', { args: [], cwd: 'relative' });
    const { code, err } = await call(['create', '-b', path, 'x']);
    assert.equal(code, 1);
    assert.match(err, /^wherry create failed: config\.json: .*process\.args.*process\.cwd/s);
    await writeFile(join(path, 'config.json'), '{"ociVersion": ');
    assert.match((await call(['create', '-b', path, 'x'])).err, /^wherry create failed: config\.json: /);
  });

  it("a step of the set-up that fails is told in runc's words", async () => {
    const path = bundles.make('step');
    const runtime = new MemoryRuntime();
    runtime.failCreate = new WherryError('not-found', 'exec: "/x": stat /x: no such file or directory', {
      path: 'process.args[0]',
      step: 'exec: "/x": stat /x',
    });
    for (const command of ['create', 'run']) {
      const { code, err } = await callAs('runc', [command, '-b', path, 'x'], { runtime });
      const text = 'unable to start container process: exec: "/x": stat /x: no such file or directory';
      assert.deepEqual([code, err], [1, `runc ${command} failed: ${text} (process.args[0])\n`]);
    }
  });

  it('an id in use', async () => {
    const path = bundles.make('twice');
    const runtime = new MemoryRuntime();
    assert.equal((await call(['create', '-b', path, 'x'], { runtime })).code, 0);
    const { code, err } = await call(['create', '-b', path, 'x'], { runtime });
    assert.deepEqual([code, err], [1, 'wherry create failed: container with given ID already exists\n']);
    assert.equal((await call(['--root', '/other', 'create', '-b', path, 'x'], { runtime })).code, 0);
  });
});

describe('run', () => {
  it('waits, deletes, and gives the status of the program', async () => {
    const path = bundles.make('run');
    for (const [waitStatus, code] of [
      [0, 0],
      [3 << 8, 3],
      [9, 137],
      [0x86, 134],
    ] as const) {
      const result = await call(['run', '-b', path, 'x'], { waitStatus });
      assert.deepEqual([result.code, result.err], [code, '']);
      assert.deepEqual(result.waits, [{ pid: 4711, flags: 0 }]);
      assert.deepEqual(result.runtime.deleted, [{ id: 'x', force: true }]);
      assert.equal(result.runtime.created[0]?.startAtOnce, true);
      // The client plays the clean-up, too.
      assert.equal(result.runtime.contexts.at(-1)?.host?.kind, 'client');
    }
  });

  it('--keep leaves the container, with its end known', async () => {
    const path = bundles.make('keep');
    const { code, runtime } = await call(['run', '--keep', '-b', path, 'x'], { waitStatus: 3 << 8 });
    assert.equal(code, 3);
    assert.deepEqual(runtime.deleted, []);
    assert.equal(runtime.state(local('x')).status, 'stopped');
  });

  it('--detach returns at once', async () => {
    const path = bundles.make('detach');
    const { code, waits, runtime } = await call(['run', '-d', '-b', path, 'x']);
    assert.deepEqual([code, waits, runtime.deleted], [0, [], []]);
    assert.equal(runtime.state(local('x')).status, 'running');
  });

  it('a terminal is relayed by the caller', async () => {
    const path = bundles.make('tty', { terminal: true });
    const { code, waits, runtime } = await call(['run', '-b', path, 'x'], { isTerminal: [true, true, true] });
    assert.deepEqual([code, waits], [0, [{ pid: 4711, flags: 1 }]]);
    assert.equal(runtime.created[0]?.caller?.relayConsole, true);
  });

  it("the terminal's rules are runc's", async () => {
    const path = bundles.make('tty', { terminal: true });
    const err = async (...words: string[]) => (await call(['run', '-b', path, ...words, 'x'])).err;
    assert.equal(
      await err(),
      'wherry run failed: cannot allocate tty: the caller has no terminal (process.terminal); set it to false in config.json, or call from a terminal\n',
    );
    assert.equal(
      await err('-d'),
      'wherry run failed: cannot allocate tty if wherry will detach without setting console socket (process.terminal); give --console-socket, or set process.terminal to false\n',
    );
    assert.equal(
      await err('--console-socket', '/s'),
      'wherry run failed: cannot use console socket if wherry will not detach or allocate tty (--console-socket); give --detach too\n',
    );
  });

  it('a failed delete does not hide the status', async () => {
    const path = bundles.make('undeletable');
    const runtime = new MemoryRuntime();
    runtime.failDelete = new WherryError('internal', 'cgroup is busy');
    const { code, err } = await call(['run', '-b', path, 'x'], { runtime, waitStatus: 4 << 8 });
    assert.equal(code, 4);
    assert.equal(err, 'wherry: warning: the container has ended but could not be deleted: cgroup is busy\n');
  });

  it('a program without a bundle leads to launch', async () => {
    const empty = join(folder, 'empty');
    await mkdir(empty);
    const options = { cwd: empty, env: { PATH: '/nowhere:/bin' } };
    const { code, err } = await call(['run', 'ls'], options);
    assert.equal(code, 1);
    assert.equal(
      err,
      'wherry run failed: JSON specification file config.json not found (--bundle); "ls" is a program: to run it without a bundle, type: wherry launch -- ls\n',
    );
    assert.doesNotMatch((await call(['run', 'no-such-program'], options)).err, /launch/);
    assert.doesNotMatch((await callAs('runc', ['run', 'ls'], options)).err, /launch/);
  });
});
