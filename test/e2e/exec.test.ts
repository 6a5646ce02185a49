/** `exec` and `ps` as callers of runc use them: every test is asked of Wherry and of runc. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, type RunResult } from '../support/run.ts';
import { openTool, type RuntimeTool } from '../support/runtimes.ts';

for (const name of ['wherry', 'runc'] as const) {
  describe(`${name}: exec`, () => {
    let tool: RuntimeTool;
    let id: string;
    before(async () => {
      tool = await openTool(name);
      id = await start('exec', (config) => {
        config.process.env = ['PATH=/usr/bin:/bin', 'FROM=config'];
      });
    });
    after(async () => {
      await tool?.run(['delete', '--force', id]);
      await tool?.[Symbol.asyncDispose]();
    });

    /** A container that sleeps. */
    const start = async (label: string, edit: (config: SpecConfig) => void = () => {}): Promise<string> => {
      const made = uniqueId(label);
      const bundle = await makeBundle(tool.folder, made, ['/bin/sleep', '1000'], (config) => {
        config.linux['cgroupsPath'] = `/${made}`;
        edit(config);
      });
      const result = await tool.run(['run', '-d', '-b', bundle, made], { outputFile: join(bundle, 'out') });
      assert.equal(result.code, 0, result.stderr);
      return made;
    };
    const exec = (...args: string[]): Promise<RunResult> => tool.run(['exec', ...args]);
    const output = async (...args: string[]): Promise<string> => {
      const result = await exec(...args);
      assert.equal(result.code, 0, `exec ${args.join(' ')}: ${result.stderr}`);
      return result.stdout;
    };
    const fails = async (text: RegExp, ...args: string[]): Promise<void> => {
      const result = await exec(...args);
      assert.equal(result.code, 255, `${result.stdout}${result.stderr}`);
      assert.match(result.stderr, text);
    };

    test('both outputs and the exit code', async () => {
      assert.deepEqual(await exec(id, 'sh', '-c', 'echo out; echo err >&2; exit 7'), {
        code: 7,
        stdout: 'out\n',
        stderr: 'err\n',
      });
      assert.equal((await exec(id, 'sh', '-c', 'kill -9 $$')).code, 137);
    });

    test('standard input', async () => {
      const result = await tool.run(['exec', id, 'cat'], { input: 'through and through' });
      assert.deepEqual([result.code, result.stdout], [0, 'through and through']);
    });

    test('it is in every namespace and cgroup of the container', async () => {
      const pid = await initOf(id);
      for (const type of ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts']) {
        const inside = (await output(id, 'readlink', `/proc/self/ns/${type}`)).trim();
        assert.equal(inside, (await output(id, 'readlink', `/proc/1/ns/${type}`)).trim(), type);
      }
      const child = exec(id, 'sh', '-c', 'echo up > /tmp-up; exec sleep 1000');
      // Not runc's own process, which becomes the program only in the end.
      const isSleep = (one: number) => readFileSync(`/proc/${one}/comm`, 'utf8') === 'sleep\n';
      const other = await eventually('ps shows it', async () =>
        (await pids(id)).find((one) => one !== pid && isSleep(one)),
      );
      assert.deepEqual(cgroupsOf(other), cgroupsOf(pid));
      process.kill(other, 'SIGTERM');
      assert.equal((await child).code, 143);
    });

    test('it has the capabilities, limits, no_new_privs and descriptors that the init has, and no more', async () => {
      const status = (text: string): string[] =>
        text
          .split('\n')
          .filter((line) => /^(Cap|NoNewPrivs|Seccomp|SigIgn|SigBlk|Uid|Gid|Groups)/.test(line));
      assert.deepEqual(
        status(await output(id, 'cat', '/proc/self/status')),
        status(await output(id, 'cat', '/proc/1/status')),
      );
      assert.equal(await output(id, 'cat', '/proc/self/limits'), await output(id, 'cat', '/proc/1/limits'));
      assert.deepEqual((await output(id, 'ls', '/proc/self/fd')).trim().split('\n'), ['0', '1', '2', '3']);
    });

    test('environment: that of config.json, then the flags', async () => {
      const lines = (await output('-e', 'A=b', '-e', 'C=d e', id, 'env')).trim().split('\n');
      for (const line of ['FROM=config', 'A=b', 'C=d e', 'HOME=/root']) assert.ok(lines.includes(line), line);
    });

    test('user, groups, folder', async () => {
      const found = await output(
        '-u',
        '5:6',
        '-g',
        '7',
        '-g',
        '8',
        '--cwd',
        '/bin',
        id,
        'sh',
        '-c',
        'id; pwd',
      );
      assert.equal(found, 'uid=5 gid=6 groups=7,8\n/bin\n');
    });

    test('capabilities are added, no_new_privs is set', async () => {
      const bits = await output('-c', 'CAP_SYS_PTRACE', id, 'grep', 'CapEff', '/proc/self/status');
      assert.notEqual(BigInt(`0x${bits.split('\t')[1]?.trim()}`) & (1n << 19n), 0n);
    });

    test('a process as JSON', async () => {
      const file = join(tool.folder, 'process.json');
      const described = {
        args: ['sh', '-c', 'id -u; pwd; echo $A; umask; ulimit -n'],
        cwd: '/bin',
        env: ['PATH=/bin', 'A=1'],
        user: { uid: 9, gid: 10, umask: 0o77 },
        rlimits: [{ type: 'RLIMIT_NOFILE', soft: 77, hard: 88 }],
      };
      writeFileSync(file, JSON.stringify(described));
      const found = await output('-p', file, id);
      // runc 1.1 leaves the umask alone, and Go's run time the soft limit.
      assert.match(found, name === 'runc' ? /^9\n\/bin\n1\n/ : /^9\n\/bin\n1\n0077\n77\n$/);
    });

    test('detached, with a pid file', async () => {
      const file = join(tool.folder, 'exec.pid');
      const result = await tool.run(['exec', '-d', '--pid-file', file, id, 'sleep', '1000'], {
        outputFile: join(tool.folder, 'detached.out'),
      });
      assert.equal(result.code, 0);
      const pid = Number(readFileSync(file, 'utf8'));
      // runc answers before its own process has become the program.
      await eventually('the program', () =>
        readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep\0') ? true : undefined,
      );
      assert.ok((await pids(id)).includes(pid));
      process.kill(pid, 'SIGKILL');
    });

    test('what cannot be executed', async () => {
      const head = 'exec failed: unable to start container process: exec: ';
      await fails(new RegExp(`${head}"?\\\\?"nope\\\\?"?: executable file not found in \\$PATH`), id, 'nope');
      await fails(new RegExp(`${head}.*/nope.*: stat /nope: no such file or directory`), id, '/nope');
      await fails(
        /exec failed: unable to start container process: exec: .*\/etc.*(permission denied|is a directory|no such file)/,
        id,
        '/etc',
      );
      await fails(/exec failed: Cwd must be an absolute path/, '--cwd', 'bin', id, 'true');
      await fails(/no such file or directory/, '--cwd', '/nope', id, 'true');
      await fails(/exec failed: container does not exist/, uniqueId('none'), 'true');
      await fails(/exec failed: open \/nope: no such file or directory/, '-p', '/nope', id);
      await fails(/not a sub cgroup path|bad cgroup path/, '--cgroup', '../x', id, 'true');
      await fails(/no such file or directory/, '--cgroup', 'nope', id, 'true');
      assert.equal((await exec()).code, 1, 'no arguments is a mistake of the caller, not of the process');
    });

    test('a terminal needs somebody who keeps it', async () => {
      await fails(
        /cannot allocate tty if (runc|wherry) will detach without setting console socket/,
        '-d',
        '-t',
        id,
        'true',
      );
    });

    test('the container stands after all that', async () => {
      const state = JSON.parse((await tool.run(['state', id])).stdout) as { status: string };
      assert.equal(state.status, 'running');
    });

    test('ps: numbers, and the table of ps -ef', async () => {
      const pid = await initOf(id);
      assert.deepEqual(await pids(id), [pid]);
      const lines = (await tool.run(['ps', id])).stdout.split('\n');
      assert.match(lines[0] ?? '', /^UID +PID +PPID +C +STIME +TTY +TIME +CMD$/);
      assert.match(
        lines[1] ?? '',
        new RegExp(`^root +${pid} +\\d+ +\\d+ \\d\\d:\\d\\d \\? +00:00:00 /bin/sleep 1000$`),
      );
      assert.equal(lines.length, 3);
    });

    test('ps with options: its lines of the ps of this host', async () => {
      const pid = await initOf(id);
      // Its columns are as wide as the largest pid of the host.
      const ps = async (...options: string[]) =>
        (await tool.run(['ps', id, ...options])).stdout.replace(/^ +/gm, '').replace(/ +/g, ' ');
      assert.equal(await ps('-e', '-o', 'pid,args'), `PID COMMAND\n${pid} /bin/sleep 1000\n`);
      assert.equal(await ps('-eopid'), `PID\n${pid}\n`);
      // runc's ps gets the dashes, too, and refuses them.
      if (name === 'wherry')
        assert.equal(await ps('--', '-e', '-o', 'comm,pid'), `COMMAND PID\nsleep ${pid}\n`);
      assert.match(await ps('aux'), new RegExp(`^USER +PID .*\n\\S+ +${pid} .*/bin/sleep 1000\n$`));
      const refused = async (pattern: RegExp, ...options: string[]) => {
        const { code, stderr } = await tool.run(['ps', id, ...options]);
        assert.equal(code, 1);
        assert.match(stderr, pattern);
      };
      await refused(/PID/, '-e', '-o', 'args');
      await refused(/exit status 1: error: unknown gnu long option/, '--no-such');
    });

    test('a stopped container', async () => {
      const stopped = await start('stopped');
      await tool.run(['kill', stopped, 'KILL']);
      await eventually(
        'it has stopped',
        async () => (await tool.run(['state', stopped])).stdout.includes('"stopped"') || undefined,
      );
      await fails(/exec failed: cannot exec in a stopped container/, stopped, 'true');
      assert.equal((await tool.run(['ps', '-f', 'json', stopped])).stdout, 'null\n');
      await tool.run(['delete', stopped]);
    });

    test('the seccomp filter of config.json is on it', async () => {
      const filtered = await start('seccomp', (config) => {
        config.linux['seccomp'] = {
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
        };
      });
      try {
        const result = await exec(filtered, 'mkdir', '/x');
        assert.match(result.stderr, /Operation not supported/);
      } finally {
        await tool.run(['delete', '--force', filtered]);
      }
    });

    const initOf = async (of: string): Promise<number> =>
      (JSON.parse((await tool.run(['state', of])).stdout) as { pid: number }).pid;
    const pids = async (of: string): Promise<number[]> =>
      JSON.parse((await tool.run(['ps', '--format', 'json', of])).stdout) as number[];
  });
}

function cgroupsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n').sort();
}
