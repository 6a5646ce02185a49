import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { WherryError } from '../../../src/errors.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';
import { call, callAs, configText, MemoryRuntime } from './support.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'wherry-cli-'));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const local = (id: string, scope = '') => ({ scope, namespace: 'default', id });

async function bundle(name: string, process: Record<string, unknown> = {}): Promise<string> {
  const path = join(folder, name);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'config.json'), configText(process));
  return path;
}

describe('state and list', () => {
  const runtime = new MemoryRuntime();
  runtime.add(local('b'), 'created', { annotations: { z: 'x<y&z', a: '2' } });
  runtime.add(local('a'), 'stopped', { bundle: '/b', createdAt: new Date('2026-01-02T03:04:05.000Z') });
  runtime.add(local('elsewhere', '/other'), 'running');
  const owner = userInfo().username;

  it("state prints runc's object: two blanks, its order, <>& escaped, no last newline", async () => {
    const { code, out } = await call(['state', 'b'], { runtime });
    assert.equal(code, 0);
    assert.equal(
      out,
      `{
  "ociVersion": "1.0.2",
  "id": "b",
  "pid": 4711,
  "status": "created",
  "bundle": "/srv/bundle",
  "rootfs": "/srv/bundle/rootfs",
  "created": "2026-01-02T03:04:05.12Z",
  "annotations": {
    "a": "2",
    "z": "x\\u003cy\\u0026z"
  },
  "owner": ""
}`,
    );
  });

  it('a stopped container has pid 0 and a whole second no fraction', async () => {
    const state = JSON.parse((await call(['state', 'a'], { runtime })).out);
    assert.deepEqual([state.pid, state.created, 'annotations' in state], [0, '2026-01-02T03:04:05Z', false]);
  });

  it("list prints runc's table", async () => {
    const { out } = await call(['list'], { runtime });
    assert.equal(
      out,
      `ID          PID         STATUS      BUNDLE        CREATED                   OWNER
a           0           stopped     /b            2026-01-02T03:04:05Z      ${owner}
b           4711        created     /srv/bundle   2026-01-02T03:04:05.12Z   ${owner}
`,
    );
  });

  it('list --format json is one line; null when there are none', async () => {
    const { out } = await call(['list', '--format', 'json'], { runtime });
    assert.match(out, /^\[\{"ociVersion":"1\.0\.2","id":"a",.*\}\]\n$/);
    const states = JSON.parse(out);
    assert.deepEqual(
      states.map(({ id, owner: name }: { id: string; owner: string }) => [id, name]),
      [
        ['a', owner],
        ['b', owner],
      ],
    );
    assert.equal((await call(['list', '-f', 'json'])).out, 'null\n');
    assert.equal(
      (await call(['list'])).out,
      'ID          PID         STATUS      BUNDLE      CREATED     OWNER\n',
    );
  });

  it('list -q prints ids; --root has containers of its own', async () => {
    assert.equal((await call(['list', '-q'], { runtime })).out, 'a\nb\n');
    assert.equal((await call(['--root', '/other', 'list', '-q'], { runtime })).out, 'elsewhere\n');
    assert.equal((await call(['--root', 'other', 'list', '-q'], { runtime, cwd: '/' })).out, 'elsewhere\n');
    assert.equal((await call(['--root', '', 'list', '-q'], { runtime })).out, 'a\nb\n');
  });

  it('an unknown container has no state', async () => {
    const { code, out, err } = await call(['state', 'nope'], { runtime });
    assert.deepEqual([code, out, err], [1, '', 'wherry: container does not exist\n']);
  });
});

describe('start, kill, delete', () => {
  it('start wants a created container', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'created');
    assert.equal((await call(['start', 'x'], { runtime })).code, 0);
    assert.equal(runtime.state(local('x')).status, 'running');
    const again = await call(['start', 'x'], { runtime });
    assert.deepEqual([again.code, again.err], [1, 'wherry: cannot start an already running container\n']);
  });

  it('kill takes names and numbers, and TERM by itself', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'running');
    for (const words of [[], ['KILL'], ['SIGUSR1'], ['hup'], ['9'], ['0'], ['RTMIN+3'], ['RTMAX-1']]) {
      assert.equal((await call(['kill', 'x', ...words], { runtime })).code, 0, words.join());
    }
    await call(['kill', '-a', 'x', 'INT'], { runtime });
    assert.deepEqual(
      runtime.signals.map(({ signal }) => signal),
      [15, 9, 10, 1, 9, 0, 37, 63, 2],
    );
    assert.deepEqual(
      runtime.signals.map(({ all }) => all),
      [...Array(8).fill(false), true],
    );
  });

  it('kill says what is wrong with a signal, after what is wrong with the container', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'running');
    const err = async (...words: string[]) => (await call(['kill', ...words], { runtime })).err;
    assert.equal(await err('x', 'TREM'), 'wherry: unknown signal "TREM" (SIGNAL); did you mean SIGTERM?\n');
    assert.equal(await err('x', '65'), 'wherry: unknown signal "65" (SIGNAL); numbers go from 0 to 64\n');
    assert.equal(
      await err('x', 'RTMIN+31'),
      'wherry: unknown signal "RTMIN+31" (SIGNAL); use RTMIN to RTMIN+30\n',
    );
    assert.equal(await err('nope', 'TREM'), 'wherry: container does not exist\n');
  });

  it('a stopped container cannot be killed, but all of it can', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'stopped');
    assert.equal((await call(['kill', 'x'], { runtime })).err, 'wherry: container not running\n');
    assert.equal((await call(['kill', '--all', 'x'], { runtime })).code, 0);
  });

  it('delete refuses a running one and forgives a missing one only with --force', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'running');
    const refused = await call(['delete', 'x'], { runtime });
    assert.deepEqual(
      [refused.code, refused.err],
      [1, 'wherry: cannot delete container x that is not stopped: running\n'],
    );
    assert.equal((await call(['delete', '--force', 'x'], { runtime })).code, 0);
    const gone = await call(['delete', 'x'], { runtime });
    assert.deepEqual([gone.code, gone.err], [1, 'wherry: container does not exist\n']);
    const forced = await call(['delete', '--force', 'x'], { runtime });
    assert.deepEqual([forced.code, forced.err], [0, '']);
  });

  it('delete --force tells errors of a container that is there', async () => {
    const runtime = new MemoryRuntime();
    runtime.add(local('x'), 'running');
    runtime.failDelete = new WherryError('not-found', 'a mount is lost');
    const { code, err } = await call(['delete', '--force', 'x'], { runtime });
    assert.deepEqual([code, err], [1, 'wherry: a mount is lost\n']);
  });
});

describe('ids', () => {
  const bad: [string, string][] = [
    ['', 'container id cannot be empty (ID); give it a name'],
    ['a/b', 'invalid container ID format: "a/b"; use letters, digits and _ + , - . only'],
    ['.', 'invalid container ID format: "."; use letters, digits and _ + , - . only'],
    ['..', 'invalid container ID format: ".."; use letters, digits and _ + , - . only'],
    ['a b', 'invalid container ID format: "a b"; use letters, digits and _ + , - . only'],
    ['é', 'invalid container ID format: "é"; use letters, digits and _ + , - . only'],
    ['x'.repeat(1025), 'invalid container ID format: 1025 characters; at most 1024 are allowed'],
  ];
  for (const [id, text] of bad) {
    it(JSON.stringify(id.slice(0, 20)), async () => {
      for (const command of ['start', 'state', 'kill', 'delete']) {
        const { code, err } = await call([command, id]);
        assert.deepEqual([code, err], [1, `wherry: ${text}\n`]);
      }
      const created = await call(['create', id]);
      assert.deepEqual([created.code, created.err], [1, `wherry create failed: ${text}\n`]);
    });
  }

  it('what runc allows is allowed', async () => {
    const path = await bundle('ids');
    for (const id of ['a', 'A_b-c.d', '+,-.', 'x'.repeat(1024)]) {
      assert.equal((await call(['create', '-b', path, '--', id])).code, 0, id);
    }
  });
});

describe('create', () => {
  it('hands on the flags, with paths of the caller made absolute', async () => {
    await bundle('flags', { terminal: true });
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
    const path = await bundle('listen', { env: ['A=1'] });
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
    const path = await bundle('bad', { args: [], cwd: 'relative' });
    const { code, err } = await call(['create', '-b', path, 'x']);
    assert.equal(code, 1);
    assert.match(err, /^wherry create failed: config\.json: .*process\.args.*process\.cwd/s);
    await writeFile(join(path, 'config.json'), '{"ociVersion": ');
    assert.match((await call(['create', '-b', path, 'x'])).err, /^wherry create failed: config\.json: /);
  });

  it("a step of the set-up that fails is told in runc's words", async () => {
    const path = await bundle('step');
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
    const path = await bundle('twice');
    const runtime = new MemoryRuntime();
    assert.equal((await call(['create', '-b', path, 'x'], { runtime })).code, 0);
    const { code, err } = await call(['create', '-b', path, 'x'], { runtime });
    assert.deepEqual([code, err], [1, 'wherry create failed: container with given ID already exists\n']);
    assert.equal((await call(['--root', '/other', 'create', '-b', path, 'x'], { runtime })).code, 0);
  });
});

describe('run', () => {
  it('waits, deletes, and gives the status of the program', async () => {
    const path = await bundle('run');
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
    const path = await bundle('keep');
    const { code, runtime } = await call(['run', '--keep', '-b', path, 'x'], { waitStatus: 3 << 8 });
    assert.equal(code, 3);
    assert.deepEqual(runtime.deleted, []);
    assert.equal(runtime.state(local('x')).status, 'stopped');
  });

  it('--detach returns at once', async () => {
    const path = await bundle('detach');
    const { code, waits, runtime } = await call(['run', '-d', '-b', path, 'x']);
    assert.deepEqual([code, waits, runtime.deleted], [0, [], []]);
    assert.equal(runtime.state(local('x')).status, 'running');
  });

  it('a terminal is relayed by the caller', async () => {
    const path = await bundle('tty', { terminal: true });
    const { code, waits, runtime } = await call(['run', '-b', path, 'x'], { isTerminal: [true, true, true] });
    assert.deepEqual([code, waits], [0, [{ pid: 4711, flags: 1 }]]);
    assert.equal(runtime.created[0]?.caller?.relayConsole, true);
  });

  it("the terminal's rules are runc's", async () => {
    const path = await bundle('tty', { terminal: true });
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
    const path = await bundle('undeletable');
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

describe('spec', () => {
  it("writes Go's JSON with tabs, by the caller's umask, and never over another", async () => {
    const path = join(folder, 'spec');
    await mkdir(path);
    assert.equal((await call(['spec', '-b', path])).code, 0);
    const file = join(path, 'config.json');
    const text = await readFile(file, 'utf8');
    assert.equal(text, JSON.stringify(defaultSpec({ cgroupVersion: 1 }), null, '\t'));
    assert.match(text, /^\{\n\t"ociVersion": /);
    assert.equal((await stat(file)).mode & 0o777, 0o640);
    const again = await call(['spec', '--rootless'], { cwd: path });
    assert.deepEqual(
      [again.code, again.err],
      [1, `wherry: File config.json exists. Remove it first; it is ${file}\n`],
    );
    await rm(file);
    assert.equal(
      (await call(['spec', '--rootless'], { cwd: path, request: { uid: 1000, gid: 100 } })).code,
      0,
    );
    assert.equal(JSON.parse(await readFile(file, 'utf8')).linux.uidMappings[0].hostID, 1000);
    assert.match((await call(['spec', '-b', '/nowhere'])).err, /^wherry: chdir \/nowhere: no such file/);
  });
});

describe('explain, version, daemon', () => {
  it('explain prints the set-up of a bundle', async () => {
    const path = await bundle('explained');
    const { code, out } = await call(['explain', 'explained'], { cwd: folder });
    assert.deepEqual([code, out], [0, `set-up of ${path} as explained\n`]);
    assert.match(
      (await call(['explain', '/nowhere'])).err,
      /^wherry: chdir \/nowhere: no such file.*\(BUNDLE\)/,
    );
  });

  it('version says who is who, and "version" once', async () => {
    const expected = [
      'wherry version 0.1.0',
      'commit: wherryd-build',
      'spec: 1.3.0',
      'node: v24.0.0',
      'libseccomp: 2.5.4',
      'client: client-build',
      'keel: keel-build',
      'wherryd: wherryd-build',
      '',
    ].join('\n');
    for (const argv of [['--version'], ['-v'], ['version'], ['--version', 'nonsense']]) {
      assert.equal((await call(argv)).out, expected, argv.join(' '));
    }
    assert.equal((await callAs('runc', ['--version'])).out, expected);
  });

  it('daemon status and stop', async () => {
    const { out } = await call(['daemon', 'status', '--format', 'json']);
    const status = JSON.parse(out);
    assert.deepEqual(
      [status.keel, status.containers, status.runDir],
      [{ pid: 77, build: 'keel-build' }, 2, '/run/wherry'],
    );
    assert.match((await call(['daemon', 'status'])).out, /^containers: {2}2 alive$/m);
    const asked: boolean[] = [];
    const status0 = { pid: 1, registered: 0, players: 0, connections: 0, startedAt: new Date(0) };
    const daemon = {
      status: async () => status0,
      stop: async (force: boolean) => void asked.push(force),
      upgrade: async () => {},
    };
    await call(['daemon', 'stop'], { deps: { daemon } });
    await call(['daemon', 'stop', '--force'], { deps: { daemon } });
    assert.deepEqual(asked, [false, true]);
    const refusal = await call(['daemon', 'start', '--foreground']);
    assert.deepEqual([refusal.code, /already runs/.test(refusal.err)], [1, true]);
  });
});
