/** What config.json does not name is the caller's, as under runc: the same bundle, started by the same odd caller. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { run } from '../support/run.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';

describe("the caller's own state, as under runc", () => {
  const tools: RuntimeTool[] = [];
  before(async () => {
    tools.push(await openTool('runc'), await openTool('wherry'));
  });
  after(async () => {
    for (const tool of tools) await tool[Symbol.asyncDispose]();
  });

  /** Output of `script` in a container whose caller has run `odd` (shell) before; runc's first. */
  async function both(odd: string, script: string, edit: (config: SpecConfig) => void): Promise<string[]> {
    const outputs: string[] = [];
    const id = uniqueId('caller');
    for (const tool of tools) {
      const bundle = await makeBundle(tool.folder, id, ['/bin/sh', '-c', script], (config) => {
        config.process['rlimits'] = [];
        edit(config);
      });
      // The daemon is there already, so that nothing of the odd caller can be the daemon's.
      await tool.run(['list']);
      const words = [tool.command, ...tool.globals, 'run', '-b', bundle, id]
        .map((word) => `'${word}'`)
        .join(' ');
      const result = await run('/bin/bash', ['-c', `${odd}; exec ${words}`], { env: tool.env });
      assert.equal(result.code, 0, `${tool.name}: ${result.stderr}`);
      outputs.push(result.stdout);
    }
    return outputs;
  }

  const same = (
    name: string,
    odd: string,
    script: string,
    shows: RegExp,
    edit: (config: SpecConfig) => void = () => {},
  ): void => {
    test(name, async () => {
      const [runc, wherry] = await both(odd, script, edit);
      assert.equal(wherry, runc);
      assert.match(wherry ?? '', shows);
    });
  };

  same('limits', 'ulimit -c 5; ulimit -u 1234', 'cat /proc/self/limits', /processes +1234 /);
  same('niceness', 'renice -n 5 $$ > /dev/null', 'cut -d" " -f19 /proc/self/stat', /^5\n$/);
  same('scheduling policy', 'chrt -b -p 0 $$', 'cut -d" " -f41 /proc/self/stat', /^3\n$/);
  same('I/O priority', 'ionice -c 3 -p $$', 'ionice', /idle/);
  same('CPUs', 'taskset -p 1 $$ > /dev/null', 'grep Cpus_allowed_list /proc/self/status', /\t0\n$/);
  same(
    'OOM score',
    'echo 321 > /proc/self/oom_score_adj',
    'cat /proc/self/oom_score_adj',
    /^321\n$/,
    (config) => {
      delete config.process['oomScoreAdj'];
    },
  );
  same('but not the umask', 'umask 077', 'umask', /^0022\n$/);
  // SIGQUIT is busybox's own doing.
  same(
    'but not ignored and blocked signals',
    "trap '' HUP PIPE USR1",
    'grep -E "^Sig(Ign|Blk|Cgt)" /proc/self/status',
    /SigIgn:\t0{15}[04]\n/,
  );

  test('the descriptors that it preserves, many too; one that is not open is an error', async () => {
    const id = uniqueId('preserve');
    for (const tool of tools) {
      const script = 'cat <&3; cat <&302; ls /proc/self/fd | wc -l';
      const bundle = await makeBundle(tool.folder, id, ['/bin/sh', '-c', script]);
      const call = (count: number) => {
        const args = [...tool.globals, 'run', '--preserve-fds', String(count), '-b', bundle, id];
        // Each of them is an open file of its own.
        const files = Array.from({ length: 300 }, () => openSync(join(bundle, 'kept'), 'r'));
        try {
          return spawnSync(tool.command, args, {
            env: tool.env,
            stdio: ['ignore', 'pipe', 'pipe', ...files],
          });
        } finally {
          for (const file of files) closeSync(file);
        }
      };
      writeFileSync(join(bundle, 'kept'), 'kept\n');
      const { status, stdout, stderr } = call(300);
      // 0-2, 300, and what ls reads.
      assert.deepEqual([status, String(stdout)], [0, 'kept\nkept\n304\n'], `${tool.name}: ${stderr}`);
      const closed = call(400);
      assert.equal(closed.status, 1, tool.name);
      assert.match(String(closed.stderr), /preserved-fd \d+ \(of 400\)/);
    }
  });

  for (const command of ['run', 'exec']) {
    const how =
      command === 'run' ? 'come before what is preserved' : 'are nothing else than what is preserved';
    test(`${command}: sockets of a service manager ${how}`, async () => {
      const id = uniqueId('listen');
      const outputs: string[] = [];
      for (const [tool, daemon] of [...tools.map((one) => [one, '1'] as const), [tools[1], '0'] as const]) {
        assert.ok(tool !== undefined);
        const env = { ...tool.env, WHERRY_DAEMON: daemon };
        const script = [
          '/bin/sh',
          '-c',
          'echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4; ls /proc/self/fd | wc -l',
        ];
        const bundle = await makeBundle(
          tool.folder,
          `${id}-${daemon}`,
          command === 'run' ? script : ['/bin/sleep', '1000'],
        );
        const own = [tool.command, ...tool.globals];
        if (command === 'exec') {
          const started = await run(tool.command, [...tool.globals, 'run', '-d', '-b', bundle, id], {
            env,
            outputFile: join(bundle, 'out'),
          });
          assert.equal(started.code, 0);
        }
        const words = command === 'run' ? ['-b', bundle, id] : [id, ...script];
        const line = [...own, command, '--preserve-fds', '1', ...words].map((word) => `'${word}'`).join(' ');
        const odd = 'echo one > 1; echo two > 2; exec 3<1 4<2; export LISTEN_FDS=1 LISTEN_PID=$$';
        const options = { env, cwd: tool.folder };
        const { code, stdout, stderr } = await run('/bin/bash', ['-c', `${odd}; exec ${line}`], options);
        assert.equal(code, 0, `${tool.name}: ${stderr}`);
        outputs.push(stdout);
        if (command === 'exec') await run(tool.command, [...tool.globals, 'delete', '-f', id], { env });
      }
      const [runc, ...ours] = outputs;
      assert.match(runc ?? '', command === 'run' ? /^1 1\none\ntwo\n/ : /^\none\n/);
      assert.deepEqual(ours, [runc, runc]);
    });
  }

  test('and the soft limit of open files, which runc 1.1 raises for itself', async () => {
    const [, wherry] = await both('ulimit -Sn 777', 'ulimit -Sn', () => {});
    assert.equal(wherry, '777\n');
  });
});
