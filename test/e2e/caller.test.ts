/** What config.json does not name is the caller's, as under runc: the same bundle, started by the same odd caller. */
import assert from 'node:assert/strict';
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
    const open = 'echo kept > file; for n in $(seq 3 302); do eval "exec $n<file"; done';
    const id = uniqueId('preserve');
    for (const tool of tools) {
      const bundle = await makeBundle(tool.folder, id, [
        '/bin/sh',
        '-c',
        'cat <&3; cat <&302; ls /proc/self/fd | wc -l',
      ]);
      const line = (count: number) =>
        `${open}; exec ${[tool.command, ...tool.globals].join(' ')} run --preserve-fds ${count} -b ${bundle} ${id}`;
      const options = { env: tool.env, cwd: tool.folder };
      const { code, stdout, stderr } = await run('/bin/bash', ['-c', line(300)], options);
      // 0-2, 300, and what ls reads.
      assert.deepEqual([code, stdout], [0, 'kept\nkept\n304\n'], `${tool.name}: ${stderr}`);
      const closed = await run('/bin/bash', ['-c', line(400)], options);
      assert.equal(closed.code, 1, tool.name);
      assert.match(closed.stderr, /preserved-fd \d+ \(of 400\)/);
    }
  });

  test('and the soft limit of open files, which runc 1.1 raises for itself', async () => {
    const [, wherry] = await both('ulimit -Sn 777', 'ulimit -Sn', () => {});
    assert.equal(wherry, '777\n');
  });
});
