/** Hooks by the real command line: where and when they run, what they are told, what their failure does. runc is the oracle. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { openTool, type RuntimeTool } from '../../support/runtimes.ts';

const hostKinds = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'] as const;

interface Told {
  kind: string;
  cwd: string;
  mountNamespace: string;
  variable: string;
  state: { id: string; status: string; pid?: number; bundle: string; annotations?: Record<string, string> };
}

/** A hook that notes what it sees in `log`, says something and ends with the code of its second argument. */
function writeHook(folder: string): { path: string; log: string } {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'hook.sh');
  const log = join(folder, 'hook.log');
  const line = '"$1" "$PWD" "$(readlink /proc/self/ns/mnt)" "$VARIABLE" "$(cat)"';
  writeFileSync(
    path,
    `#!/bin/sh\nprintf '%s\\t%s\\t%s\\t%s\\t%s\\n' ${line} >> ${log}\necho "it is broken" >&2\nexit "$2"\n`,
  );
  chmodSync(path, 0o755);
  return { path, log };
}

function readLog(log: string): Told[] {
  if (!existsSync(log)) return [];
  return readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [kind = '', cwd = '', mountNamespace = '', variable = '', state = '{}'] = line.split('\t');
      return { kind, cwd, mountNamespace, variable, state: JSON.parse(state) as Told['state'] };
    });
}

const hook = (path: string, kind: string, code = 0) => ({
  path,
  args: ['hook', kind, String(code)],
  env: ['PATH=/usr/bin:/bin', 'VARIABLE=a b'],
});

describe('hooks', () => {
  let wherry: RuntimeTool;
  let runc: RuntimeTool;
  before(async () => {
    wherry = await openTool('wherry');
    runc = await openTool('runc');
  });
  after(async () => {
    await wherry[Symbol.asyncDispose]();
    await runc[Symbol.asyncDispose]();
  });

  async function bundleWith(
    tool: RuntimeTool,
    id: string,
    args: readonly string[],
    hooks: (path: string) => Record<string, unknown>,
    edit: (config: SpecConfig) => void = () => {},
  ): Promise<{ bundle: string; log: string; id: string }> {
    const { path, log } = writeHook(join(tool.folder, `hook-${id}`));
    const bundle = await makeBundle(tool.folder, id, args, (config) => {
      config['hooks'] = hooks(path);
      config['annotations'] = { 'org.example': 'yes' };
      edit(config);
    });
    return { bundle, log, id };
  }

  /** Create, start, wait, delete; what the hooks were told meanwhile, and where the init lived. */
  async function live(
    tool: RuntimeTool,
  ): Promise<{ told: Told[]; init: string; host: string; bundle: string }> {
    const id = uniqueId('life');
    const hooks = (path: string) => Object.fromEntries(hostKinds.map((kind) => [kind, [hook(path, kind)]]));
    const { bundle, log } = await bundleWith(tool, id, ['/bin/sleep', '100'], hooks);
    const output = join(tool.folder, `${id}.out`);
    const created = await tool.run(['create', '-b', bundle, id], { outputFile: output });
    assert.equal(created.code, 0, readFileSync(output, 'utf8'));
    const afterCreate = readLog(log).map(({ kind }) => kind);
    // runc 1.1 runs poststart too early.
    if (tool.name === 'wherry')
      assert.deepEqual(afterCreate, ['prestart', 'createRuntime', 'createContainer']);
    assert.equal((await tool.run(['start', id])).code, 0);
    const { pid } = JSON.parse((await tool.run(['state', id])).stdout) as { pid: number };
    const init = readlinkSync(`/proc/${pid}/ns/mnt`);
    assert.equal((await tool.run(['delete', '--force', id])).code, 0);
    return { told: readLog(log), init, host: readlinkSync('/proc/self/ns/mnt'), bundle };
  }

  test('run in their order and namespaces and are told what runc tells', async () => {
    const ours = await live(wherry);
    const theirs = await live(runc);
    const shown = ({ told, init, host, bundle }: typeof ours) =>
      told.map(({ kind, mountNamespace, variable, state }) => ({
        kind,
        where: mountNamespace === init ? 'container' : mountNamespace === host ? 'host' : 'elsewhere',
        variable,
        // runc 1.1 runs poststart before the start.
        status: kind === 'poststart' ? 'running' : state.status,
        bundle: state.bundle === bundle,
        annotations: state.annotations,
        // runc tells a number that is gone after the end; the specification wants none.
        pid: kind === 'poststop' ? undefined : kind === 'createContainer' ? state.pid : (state.pid ?? 0) > 1,
      }));
    assert.deepEqual(shown(ours), shown(theirs));
    assert.equal(ours.told[0]?.cwd, ours.bundle);
    assert.equal(ours.told.find(({ kind }) => kind === 'poststart')?.state.status, 'running');
    assert.equal(ours.told.at(-1)?.state.pid, undefined);
  });

  test('startContainer runs as the user, in the root, before the program and not before start', async () => {
    const id = uniqueId('startc');
    const { bundle } = await bundleWith(
      wherry,
      id,
      ['/bin/sh', '-c', 'echo program >> /tmp/order'],
      () => ({
        startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'id -u >> /tmp/order; pwd >> /tmp/order'] }],
      }),
      (config) => {
        config.root.readonly = false;
        config.process['user'] = { uid: 1000, gid: 1000 };
      },
    );
    chmodSync(join(bundle, 'rootfs/tmp'), 0o1777);
    const order = join(bundle, 'rootfs/tmp/order');
    const output = join(wherry.folder, `${id}.out`);
    assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile: output })).code, 0);
    assert.equal(existsSync(order), false);
    const started = await wherry.run(['start', id]);
    assert.equal(started.code, 0, started.stderr);
    assert.equal((await wherry.run(['delete', '--force', id])).code, 0);
    const lines = existsSync(order) ? readFileSync(order, 'utf8').trim().split('\n') : [];
    // The program may have been killed before it wrote.
    assert.deepEqual(lines.slice(0, 2), ['1000', '/']);
  });

  for (const kind of [
    'prestart',
    'createRuntime',
    'createContainer',
    'startContainer',
    'poststart',
  ] as const) {
    test(`a failing ${kind} hook fails run, names itself and its output, and leaves nothing`, async () => {
      const id = uniqueId(`bad-${kind.toLowerCase()}`);
      const { bundle, log } = await bundleWith(
        wherry,
        id,
        ['/bin/sleep', '100'],
        (path) => ({
          [kind]:
            kind === 'startContainer'
              ? [{ path: '/bin/true' }, { path: '/bin/sh', args: ['sh', '-c', 'echo it is broken; exit 7'] }]
              : [hook(path, 'fine'), hook(path, kind, 7), hook(path, 'never')],
          poststop: [hook(path, 'poststop')],
        }),
        (config) => (config.linux['cgroupsPath'] = `/${id}`),
      );
      const result = await wherry.run(['run', '-b', bundle, id]);
      assert.equal(result.code, 1);
      assert.match(result.stderr, new RegExp(`hooks\\.${kind}\\[1\\]: exit status 7: it is broken`));
      const kinds = readLog(log).map((told) => told.kind);
      const before = kind === 'startContainer' ? [] : ['fine', kind];
      assert.deepEqual(kinds, [...before, 'poststop']);
      assert.equal((await wherry.run(['state', id])).code, 1);
      assert.equal(existsSync(`/sys/fs/cgroup/pids/${id}`), false);
      assert.deepEqual(readdirSync(join(bundle, 'rootfs/proc')), []);
    });
  }

  test('a failing poststart hook stops a container that was created before', async () => {
    const id = uniqueId('poststart');
    const hooks = (path: string) => ({ poststart: [hook(path, 'poststart', 1)] });
    const { bundle } = await bundleWith(wherry, id, ['/bin/sleep', '100'], hooks);
    const output = join(wherry.folder, `${id}.out`);
    assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile: output })).code, 0);
    const started = await wherry.run(['start', id]);
    assert.equal(started.code, 1);
    assert.match(started.stderr, /hooks\.poststart\[0\]: exit status 1/);
    assert.equal((await wherry.run(['delete', '--force', id])).code, 0);
  });

  test('poststop hooks all run, and a failing one is only told', async () => {
    const id = uniqueId('poststop');
    const hooks = (path: string) => ({ poststop: [hook(path, 'first', 1), hook(path, 'second')] });
    const { bundle, log } = await bundleWith(wherry, id, ['/bin/true'], hooks);
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.code, 0, result.stderr);
    assert.deepEqual(
      readLog(log).map(({ kind }) => kind),
      ['first', 'second'],
    );
  });

  test('poststop hooks run before the state goes and the deletion is told, so a death of wherryd does not lose them', async () => {
    const id = uniqueId('stays');
    const state = join(wherry.env['WHERRY_RUN_DIR'] ?? '', 'containers/local/default', id, 'state.json');
    const seen = join(wherry.folder, `${id}.seen`);
    const { bundle } = await bundleWith(wherry, id, ['/bin/true'], () => ({
      poststop: [{ path: '/bin/sh', args: ['sh', '-c', `test -e ${state}; echo $? > ${seen}`] }],
    }));
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.code, 0, result.stderr);
    assert.equal(readFileSync(seen, 'utf8'), '0\n');
    assert.equal(existsSync(state), false);
  });

  test('a hook that takes too long is killed with its children', async () => {
    const id = uniqueId('late');
    const mark = `100.${process.pid}`;
    const { bundle } = await bundleWith(wherry, id, ['/bin/true'], () => ({
      createRuntime: [
        { path: '/bin/sh', args: ['sh', '-c', `sleep ${mark}; true`], env: ['PATH=/bin'], timeout: 1 },
      ],
    }));
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /hooks\.createRuntime\[0\]: timed out and was killed/);
    const left = () =>
      readdirSync('/proc').filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark);
        } catch {
          return false;
        }
      });
    // A signal is sent, and a moment later it has killed.
    await eventually('nobody is left', () => left().length === 0 || undefined);
  });

  test('a hook that cannot be executed or dies by a signal says so', async () => {
    for (const [entry, text] of [
      [{ path: '/nowhere/hook' }, /hooks\.prestart\[0\]: cannot be executed: no such file or directory/],
      [{ path: '/bin/sh', args: ['sh', '-c', 'kill -9 $$'] }, /hooks\.prestart\[0\]: killed by signal 9/],
    ] as const) {
      const id = uniqueId('dead');
      const { bundle } = await bundleWith(wherry, id, ['/bin/true'], () => ({ prestart: [entry] }));
      const result = await wherry.run(['run', '-b', bundle, id]);
      assert.equal(result.code, 1);
      assert.match(result.stderr, text);
    }
  });

  test("a hook of nvidia's form mounts into the root from the host", async () => {
    const id = uniqueId('gpu');
    const script = [
      'state=$(cat); pid=$(echo "$state" | tr -d " " | grep -o "pid.:[0-9]*" | cut -d: -f2)',
      'root=$(echo "$state" | grep -o "bundle.:.[^\\"]*" | cut -d\\" -f3)/rootfs',
      'nsenter -t "$pid" -m sh -c "mount -t tmpfs hook $root/var && echo driver > $root/var/lib"',
    ].join('\n');
    const { bundle } = await bundleWith(wherry, id, ['/bin/cat', '/var/lib'], () => ({
      prestart: [
        { path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] },
      ],
    }));
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.code, 0, result.stderr);
    assert.equal(result.stdout, 'driver\n');
  });
});
