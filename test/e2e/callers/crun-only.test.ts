/** What only crun has beside runc's commands, in the same words for both: many containers by one pattern, and containers without cgroups. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { cgroupRoots } from '../../support/cgroups.ts';
import { peers } from '../../support/debs.ts';
import { temporaryFolder, uniqueId } from '../../support/paths.ts';
import { eventually, type RunOptions, type RunResult, run } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { withoutUnified } from './scenario.ts';

interface Tool extends AsyncDisposable {
  folder: string;
  call(args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

async function openCrun(): Promise<Tool> {
  const { crun, crunLibraries } = await peers(['bookworm']);
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'root'), { mode: 0o700 });
  const [program = '', ...rest] = [...withoutUnified, crun, '--root', join(folder, 'root')];
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LD_LIBRARY_PATH: crunLibraries };
  return {
    folder,
    call: (args, options) => run(program, [...rest, ...args], { env, ...options }),
    async [Symbol.asyncDispose]() {
      await run(program, [...rest, 'delete', '--force', '--regex', '.'], { env });
      rmSync(folder, { recursive: true });
    },
  };
}

function openWherry(): Tool {
  const wherry = new Wherry();
  return {
    folder: wherry.folder,
    call: (args, options) => wherry.run(args, options),
    [Symbol.asyncDispose]: () => wherry[Symbol.asyncDispose](),
  };
}

for (const name of ['crun', 'wherry'] as const) {
  describe(`what only crun has: ${name}`, () => {
    let tool: Tool;
    before(async () => {
      tool = name === 'crun' ? await openCrun() : openWherry();
    });
    after(() => tool?.[Symbol.asyncDispose]());

    const must = async (...args: string[]): Promise<string> => {
      // A container keeps its starter's output.
      const detached = args.includes('-d') ? { outputFile: join(tool.folder, 'output') } : {};
      const { code, stdout, stderr } = await tool.call(args, detached);
      assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
      return stdout;
    };
    const bundleOf = (id: string, script: string, edit: (config: SpecConfig) => void = () => {}) =>
      makeBundle(tool.folder, id, ['/bin/sh', '-c', script], edit);
    const listed = async () =>
      (await must('list', '-q'))
        .split('\n')
        .filter((id) => id !== '')
        .sort();
    const statusOf = async (id: string): Promise<string> =>
      (JSON.parse(await must('state', id)) as { status: string }).status;
    const stopped = (id: string) =>
      eventually(`${id} has stopped`, async () => (await statusOf(id)) === 'stopped' || undefined);

    test('kill and delete take an extended regular expression', async () => {
      const base = uniqueId('many');
      const bundle = await bundleOf('many', 'sleep 1000');
      const ids = ['a1', 'a2', 'b1'].map((end) => `${base}-${end}`);
      for (const id of ids) await must('run', '-d', '-b', bundle, id);
      await must('kill', '--regex', `^${base}-[[:alpha:]]2$`, 'KILL');
      await stopped(`${base}-a2`);
      assert.equal(await statusOf(`${base}-a1`), 'running');
      assert.equal(await statusOf(`${base}-b1`), 'running');
      // Nothing matches; one of two is not running any more: neither is a failure.
      await must('kill', '-r', 'nothing-like-it', 'KILL');
      await must('kill', '-r', `${base}-a`, 'KILL');
      await stopped(`${base}-a1`);
      // One that runs stays.
      await must('delete', '-r', '(a1|b1)$');
      assert.deepEqual(await listed(), [`${base}-a2`, `${base}-b1`]);
      await must('delete', '--force', '--regex', base);
      assert.deepEqual(await listed(), []);
    });

    test('--cgroup-manager disabled: the container stays in the cgroups of its caller', async () => {
      const id = uniqueId('none');
      const edit = (config: SpecConfig) => {
        config.linux['cgroupsPath'] = `/${id}`;
      };
      const bundle = await bundleOf('none', 'cat /proc/self/cgroup; sleep 1000', edit);
      const once = await bundleOf('once', 'cat /proc/self/cgroup', edit);
      const own = readFileSync('/proc/self/cgroup', 'utf8');
      assert.equal(await must('--cgroup-manager', 'disabled', 'run', '-b', once, id), own);
      await must('--cgroup-manager', 'disabled', 'run', '-d', '-b', bundle, id);
      try {
        assert.deepEqual(
          cgroupRoots().filter((root) => existsSync(join(root, id))),
          [],
        );
        assert.equal(await statusOf(id), 'running');
        assert.equal(await must('exec', id, '/bin/cat', '/proc/self/cgroup'), own);
        assert.equal((await tool.call(['pause', id])).code, 1);
        assert.notEqual((await tool.call(['update', '--pids-limit', '50', id])).code, 0);
        await must('kill', id, 'KILL');
        await stopped(id);
      } finally {
        await must('delete', '--force', id);
      }
    });

    test('an unknown manager is refused', async () => {
      const { code, stderr } = await tool.call(['--cgroup-manager', 'nobody', 'list']);
      assert.equal(code, 1);
      assert.match(stderr, name === 'crun' ? /unknown cgroup manager/ : /"nobody" for flag --cgroup-manager/);
    });
  });
}

describe('what only Wherry says about them', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  test('limits that no cgroup would keep are refused, where crun passes over them', async () => {
    const id = uniqueId('limit');
    const bundle = await makeBundle(wherry.folder, 'limit', ['/bin/true'], ({ linux }) => {
      linux.resources = { pids: { limit: 50 } };
    });
    const refused = await wherry.run(['--cgroup-manager', 'disabled', 'run', '-b', bundle, id]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /linux\.resources\.pids\.limit: cannot set limits without cgroups/);
    const launched = await wherry.run([
      '--cgroup-manager',
      'disabled',
      'launch',
      '--memory',
      '64m',
      '--',
      '/bin/true',
    ]);
    assert.deepEqual([launched.code, /linux\.resources\.memory\.limit/.test(launched.stderr)], [125, true]);
    const both = await wherry.run([
      '--systemd-cgroup',
      '--cgroup-manager',
      'disabled',
      'run',
      '-b',
      bundle,
      id,
    ]);
    assert.match(both.stderr, /--cgroup-manager disabled contradicts --systemd-cgroup/);
    assert.equal(await wherry.must(['list', '-q']), '');
  });

  test('its processes are found without a cgroup, also by the next wherryd; pause says why not', async () => {
    const id = uniqueId('found');
    const globals = ['--cgroup-manager', 'disabled'];
    await wherry.must([
      ...globals,
      'launch',
      '-d',
      '--name',
      id,
      '--',
      'sh',
      '-c',
      'sleep 1000 & sleep 1000 & wait',
    ]);
    const processes = () =>
      eventually('three processes', async () => {
        const pids = JSON.parse(await wherry.must(['ps', '--format', 'json', id])) as number[];
        return pids.length === 3 ? pids : undefined;
      });
    const before = await processes();
    process.kill((await wherry.daemon()).wherryd, 'SIGKILL');
    assert.deepEqual(await processes(), before);
    const paused = await wherry.run(['pause', id]);
    assert.match(
      paused.stderr,
      /cannot pause: the container has no cgroup: it was made with --cgroup-manager disabled/,
    );
    await wherry.must(['kill', '--all', id, 'KILL']);
    assert.equal(await wherry.must(['wait', id]), '137\n');
    await wherry.must(['rm', id]);
  });

  test('a pattern that is none, or takes too long, acts on nothing', async () => {
    const id = `${'a'.repeat(60)}-`;
    await wherry.must(['launch', '-d', '--name', id, '--', 'sleep', '1000']);
    for (const [pattern, why] of [
      ['(', /not an extended regular expression/],
      ['^(a+)+$', /takes too long/],
    ] as const) {
      const { code, stderr } = await wherry.run(['kill', '--regex', pattern, 'KILL']);
      assert.deepEqual([code, why.test(stderr)], [1, true], stderr);
    }
    assert.match(await wherry.must(['ps']), /running/);
    await wherry.must(['rm', '-f', id]);
  });
});
