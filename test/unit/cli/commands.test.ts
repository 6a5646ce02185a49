import assert from 'node:assert/strict';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { WherryError } from '../../../src/errors.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';
import { Bundles, call, callAs, local, MemoryRuntime } from './support.ts';

const bundles = new Bundles();
const { folder } = bundles;
after(() => bundles.remove());

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
    const path = bundles.make('ids');
    for (const id of ['a', 'A_b-c.d', '+,-.', 'x'.repeat(1024)]) {
      assert.equal((await call(['create', '-b', path, '--', id])).code, 0, id);
    }
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
    const path = bundles.make('explained');
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
