/** The command line as callers of runc use it: every test is asked of Wherry and of runc, so that none asks for what runc does not do. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { cgroupFile } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';
import { handlesTerm } from '../support/signals.ts';

interface State {
  ociVersion: string;
  id: string;
  pid: number;
  status: string;
  bundle: string;
}

for (const name of ['wherry', 'runc'] as const) {
  describe(`${name}: the commands`, () => {
    let tool: RuntimeTool;
    before(async () => {
      tool = await openTool(name);
    });
    after(async () => {
      await tool?.[Symbol.asyncDispose]();
    });

    const shell = (id: string, script: string, edit?: (config: SpecConfig) => void): Promise<string> =>
      makeBundle(tool.folder, id, ['/bin/sh', '-c', script], (config) => {
        config.linux['cgroupsPath'] = `/${id}`;
        edit?.(config);
      });
    const must = async (args: readonly string[], outputFile?: string): Promise<string> => {
      const result = await tool.run(args, outputFile === undefined ? {} : { outputFile });
      assert.equal(result.code, 0, `${name} ${args.join(' ')}: ${result.stdout}${result.stderr}`);
      return result.stdout;
    };
    const state = async (id: string): Promise<State> => JSON.parse(await must(['state', id])) as State;
    const until = (id: string, status: string): Promise<boolean> =>
      eventually(`${id} is ${status}`, async () => (await state(id)).status === status || undefined);

    test('run: both outputs and the exit code', async () => {
      const id = uniqueId('run');
      const bundle = await shell(id, 'echo out; echo err >&2; exit 3');
      assert.deepEqual(await tool.run(['run', '--bundle', bundle, id]), {
        code: 3,
        stdout: 'out\n',
        stderr: 'err\n',
      });
      assert.notEqual((await tool.run(['state', id])).code, 0, 'run deletes the container at its end');
    });

    test('run: standard input', async () => {
      const id = uniqueId('in');
      const bundle = await shell(id, 'read line; echo "got $line"');
      const result = await tool.run(['run', '-b', bundle, id], { input: 'a line\n' });
      assert.deepEqual([result.code, result.stdout], [0, 'got a line\n'], result.stderr);
    });

    test('run: the bundle is the current folder where none is named', async () => {
      const id = uniqueId('cwd');
      const bundle = await shell(id, 'echo here');
      assert.equal((await tool.run(['run', id], { cwd: bundle })).stdout, 'here\n');
    });

    test('run: PATH lookup inside the root filesystem', async () => {
      const id = uniqueId('path');
      const bundle = await makeBundle(tool.folder, id, ['echo', 'found']);
      assert.equal((await tool.run(['run', '-b', bundle, id])).stdout, 'found\n');
    });

    test('run: the caller is the parent, and its signals arrive', async () => {
      const id = uniqueId('parent');
      const bundle = await shell(id, 'trap "exit 9" TERM; while :; do sleep 0.1; done');
      const child = spawn(tool.command, [...tool.globals, 'run', '-b', bundle, id], {
        env: tool.env,
        stdio: 'ignore',
      });
      const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
      const running = await eventually('it runs', async () => {
        const found = await tool.run(['state', id]);
        const parsed = found.code === 0 ? (JSON.parse(found.stdout) as State) : undefined;
        return parsed?.status === 'running' ? parsed : undefined;
      });
      const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
      assert.match(status, new RegExp(`PPid:\\t${child.pid}\\n`));
      await handlesTerm(() => running.pid);
      child.kill('SIGTERM');
      assert.equal(await ended, 9);
    });

    test('run --detach, state, list, kill, delete', async () => {
      const id = uniqueId('detach');
      const bundle = await shell(id, 'exec sleep 1000');
      const pidFile = join(tool.folder, `${id}.pid`);
      await must(['run', '-d', '--pid-file', pidFile, '-b', bundle, id], '/dev/null');
      const running = await state(id);
      assert.deepEqual([running.id, running.status, running.bundle], [id, 'running', bundle]);
      assert.equal(readFileSync(pidFile, 'utf8'), String(running.pid));
      assert.ok((await must(['list', '-q'])).split('\n').includes(id));
      const listed = JSON.parse(await must(['list', '--format', 'json'])) as State[];
      assert.equal(listed.find((one) => one.id === id)?.pid, running.pid);
      assert.match(await must(['list']), /^ID +PID +STATUS +BUNDLE +CREATED +OWNER\n/);
      const refused = await tool.run(['delete', id]);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, new RegExp(`cannot delete container ${id} that is not stopped: running`));
      await must(['kill', id, 'KILL']);
      await until(id, 'stopped');
      await must(['delete', id]);
      assert.notEqual((await tool.run(['state', id])).code, 0);
      assert.ok(hasEnded(running.pid));
    });

    test('create, start', async () => {
      const id = uniqueId('create');
      const bundle = await shell(id, 'echo started; exec sleep 1000');
      const output = join(tool.folder, `${id}.out`);
      await must(['create', '--bundle', bundle, id], output);
      assert.equal((await state(id)).status, 'created');
      assert.equal(readFileSync(output, 'utf8'), '', 'nothing of the program has run');
      await must(['start', id]);
      await eventually('its output', () => readFileSync(output, 'utf8') === 'started\n' || undefined);
      assert.equal((await state(id)).status, 'running');
      const again = await tool.run(['start', id]);
      assert.equal(again.code, 1);
      assert.match(again.stderr, /running/);
      await must(['kill', id, '9']);
      await until(id, 'stopped');
      await must(['delete', id]);
    });

    test('a created container is deleted without start', async () => {
      const id = uniqueId('never');
      const bundle = await shell(id, 'echo no');
      await must(['create', '-b', bundle, id], '/dev/null');
      const { pid } = await state(id);
      await must(['delete', id]);
      await eventually('its process has ended', () => hasEnded(pid) || undefined);
    });

    test('delete --force ends a running container; of an unknown id it is no error', async () => {
      const id = uniqueId('force');
      const bundle = await shell(id, 'exec sleep 1000');
      await must(['run', '-d', '-b', bundle, id], '/dev/null');
      await must(['delete', '--force', id]);
      assert.notEqual((await tool.run(['state', id])).code, 0);
      await must(['delete', '--force', id]);
    });

    test('an unknown id', async () => {
      const id = uniqueId('unknown');
      for (const args of [
        ['state', id],
        ['start', id],
        ['kill', id],
        ['delete', id],
      ]) {
        const result = await tool.run(args);
        assert.equal(result.code, 1, args.join(' '));
        assert.match(result.stderr, /container does not exist/, args.join(' '));
      }
    });

    test('run: the same id again at once, and nobody sees the one before', async () => {
      const id = uniqueId('again');
      const bundle = await shell(id, 'exit 4');
      for (let round = 0; round < 10; round += 1) {
        const { code, stderr } = await tool.run(['run', '-b', bundle, id]);
        assert.equal(code, 4, stderr);
        if (round % 3 === 1) assert.match((await tool.run(['state', id])).stderr, /does not exist/);
        if (round % 3 === 2) assert.doesNotMatch(await must(['list']), new RegExp(id));
      }
    });

    test('an id used twice', async () => {
      const id = uniqueId('twice');
      const bundle = await shell(id, 'exec sleep 1000');
      await must(['run', '-d', '-b', bundle, id], '/dev/null');
      const second = await tool.run(['run', '-b', bundle, id]);
      assert.equal(second.code, 1);
      assert.match(second.stderr, /already exists/);
      assert.equal((await state(id)).status, 'running');
      await must(['delete', '-f', id]);
    });

    test('limits are in the cgroup, and the cgroup goes with the container', async () => {
      const id = uniqueId('limits');
      const bundle = await shell(id, 'exec sleep 1000', (config) => {
        config.linux.resources = {
          memory: { limit: 67108864 },
          cpu: { shares: 300, quota: 25000, period: 50000, cpus: '0' },
          pids: { limit: 21 },
        };
      });
      await must(['run', '-d', '-b', bundle, id], '/dev/null');
      const { pid } = await state(id);
      assert.equal(cgroupFile(pid, 'pids', 'pids.max'), '21');
      assert.equal(
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max'),
        '67108864',
      );
      assert.equal(cgroupFile(pid, 'cpuset', 'cpuset.cpus'), '0');
      const quota =
        cgroupFile(pid, 'cpu', 'cpu.cfs_quota_us') ?? cgroupFile(pid, 'cpu', 'cpu.max')?.split(' ')[0];
      assert.equal(quota, '25000');
      await must(['delete', '-f', id]);
      for (const root of readdirSync('/sys/fs/cgroup'))
        assert.ok(!existsSync(`/sys/fs/cgroup/${root}/${id}`), root);
    });

    test('user, groups, umask, rlimits, capabilities', async () => {
      const id = uniqueId('user');
      const script =
        'id -u; id -g; umask; ulimit -n; grep -E "^(Groups|Cap|NoNewPrivs)" /proc/self/status; pwd; echo $HELLO';
      const bundle = await shell(id, script, (config) => {
        config.process['user'] = { uid: 1000, gid: 1001, additionalGids: [5, 6], umask: 0o27 };
        config.process['rlimits'] = [{ type: 'RLIMIT_NOFILE', hard: 512, soft: 256 }];
        config.process.cwd = '/tmp';
        config.process.env.push('HELLO=world');
        const one = ['CAP_NET_BIND_SERVICE'];
        config.process['capabilities'] = {
          bounding: one,
          effective: one,
          permitted: one,
          inheritable: [],
          ambient: [],
        };
      });
      const result = await tool.run(['run', '-b', bundle, id]);
      assert.equal(result.code, 0, result.stderr);
      const lines = result.stdout.trim().split('\n');
      assert.deepEqual(lines.slice(0, 4), ['1000', '1001', '0027', '256']);
      assert.match(result.stdout, /Groups:\t5 6/);
      assert.match(result.stdout, /CapBnd:\t0000000000000400/);
      assert.match(
        result.stdout,
        /CapPrm:\t0000000000000000/,
        'exec of a program without file capabilities keeps none',
      );
      assert.match(result.stdout, /NoNewPrivs:\t1/);
      assert.deepEqual(lines.slice(-2), ['/tmp', 'world']);
    });

    test('seccomp', async () => {
      const id = uniqueId('seccomp');
      const bundle = await shell(
        id,
        'grep ^Seccomp: /proc/self/status; mkdir /tmp/x 2>&1; echo "code $?"',
        (config) => {
          config.root.readonly = false;
          config.linux['seccomp'] = {
            defaultAction: 'SCMP_ACT_ALLOW',
            architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
            syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
          };
        },
      );
      const result = await tool.run(['run', '-b', bundle, id]);
      assert.equal(
        result.stdout,
        "Seccomp:\t2\nmkdir: can't create directory '/tmp/x': Operation not permitted\ncode 1\n",
      );
    });

    test('a terminal', async () => {
      const id = uniqueId('tty');
      const bundle = await shell(
        id,
        'until stty size 2>/dev/null | grep -q 101; do sleep 0.05; done; tty; stty size; echo typed $(head -n 1)',
        (config) => {
          config.process.terminal = true;
        },
      );
      const line = `stty rows 33 cols 101; exec ${[tool.command, ...tool.globals, 'run', '-b', bundle, id].join(' ')}`;
      // script(1) gives the command a terminal of its own; its input ends when ours does.
      const result = await withTerminal(line, tool, 'hello\n');
      assert.match(result, /\/dev\/(pts\/0|console)\r\n/);
      assert.match(result, /33 101\r\n/, 'the size of our terminal');
      assert.match(result, /typed hello\r\n/);
    });

    if (name === 'wherry') {
      test("crun's --config, --file and --cgroup-manager", async () => {
        const id = uniqueId('config');
        const bundle = await shell(id, 'echo config');
        await must(['spec', '-b', bundle, '--file', 'other.json']);
        const other = JSON.parse(readFileSync(join(bundle, 'other.json'), 'utf8')) as SpecConfig;
        other.process.terminal = false;
        other.process.args = ['/bin/echo', 'other'];
        writeFileSync(join(bundle, 'other.json'), JSON.stringify(other));
        assert.equal(await must(['run', '-b', bundle, '-f', 'other.json', id]), 'other\n');
        assert.equal(await must(['--cgroup-manager', 'cgroupfs', 'run', '-b', bundle, id]), 'config\n');
        const missing = await tool.run(['create', '-b', bundle, '--config', 'none.json', id]);
        assert.equal(missing.code, 1);
        assert.match(missing.stderr, /none\.json not found/);
      });
    }

    test('spec writes what runs', async () => {
      const folder = join(tool.folder, 'spec');
      await makeBundle(tool.folder, 'spec', ['/bin/true']);
      const existing = await tool.run(['spec', '-b', folder]);
      assert.equal(existing.code, 1, 'an existing config.json is not overwritten');
      const path = join(folder, 'config.json');
      const before = JSON.parse(readFileSync(path, 'utf8')) as SpecConfig;
      rmSync(path);
      await must(['spec', '-b', folder]);
      const made = JSON.parse(readFileSync(path, 'utf8')) as SpecConfig;
      assert.equal(made.process.terminal, true);
      assert.deepEqual(made.process.args, ['sh']);
      assert.deepEqual(made.mounts, before.mounts);
      assert.deepEqual(made.linux.namespaces, before.linux.namespaces);
    });
  });
}

/** Gone, or a zombie that waits for a parent which is not ours (a container host's process 1 may never reap). */
function hasEnded(pid: number): boolean {
  try {
    return /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

/** Runs a command line under script(1) with a terminal; types `input` once the program asks; returns what the terminal showed. */
async function withTerminal(line: string, tool: RuntimeTool, input: string): Promise<string> {
  const child = spawn('script', ['-qec', line, '/dev/null'], {
    env: { ...tool.env, TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  child.stdout.on('data', (chunk: Buffer) => {
    shown += String(chunk);
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  try {
    await eventually('the program writes to its terminal', () => /33 101\r\n/.test(shown) || undefined);
    child.stdin.write(input);
    await eventually('the program ends', () => child.exitCode !== null || undefined);
  } finally {
    child.stdin.end();
    if (child.exitCode === null) child.kill('SIGKILL');
  }
  await ended;
  return shown;
}
