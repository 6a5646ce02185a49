/** `wherry launch`, `explain`, `daemon`, and that the built tree works from wherever it lies. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { editConfig, makeBundle } from '../support/bundle.ts';
import { cgroupFile } from '../support/cgroups.ts';
import { dist, uniqueId, wherryBinary } from '../support/paths.ts';
import { eventually, must, run } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

describe('wherry launch', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });
  const launch = (...args: string[]) => wherry.run(['launch', '--name', uniqueId('launch'), ...args]);

  test("a command of the host's root filesystem, and its exit code", async () => {
    const result = await launch('--', 'sh', '-c', 'head -n 1 /etc/os-release; exit 5');
    assert.equal(result.code, 5, result.stderr);
    assert.equal(result.stdout.split('\n')[0], readFileSync('/etc/os-release', 'utf8').split('\n')[0]);
  });

  test('what it writes is not on the host', async () => {
    const result = await launch('--', 'sh', '-c', 'echo x > /wherry-was-here && cat /wherry-was-here');
    assert.deepEqual([result.code, result.stdout], [0, 'x\n'], result.stderr);
    assert.ok(!existsSync('/wherry-was-here'));
  });

  test('hostname, privileges and lo', async () => {
    const id = uniqueId('name');
    const script =
      'hostname; grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; cat /sys/class/net/lo/flags; ls /sys/class/net';
    const result = await wherry.run(['launch', '--name', id, '--', 'sh', '-c', script]);
    const lines = result.stdout.trim().split('\n');
    assert.equal(lines[0], id, result.stderr);
    assert.deepEqual(lines.slice(1, 4), ['CapBnd:\t00000000a80425fb', 'NoNewPrivs:\t1', 'Seccomp:\t2']);
    assert.equal(Number(lines[4]) & 1, 1, 'lo is up');
    assert.equal(lines[5], 'lo');
  });

  test('a root filesystem of its own', async () => {
    const bundle = await makeBundle(wherry.folder, 'own', ['true']);
    const result = await launch('--rootfs', join(bundle, 'rootfs'), '--', 'busybox', 'echo', 'own');
    assert.deepEqual([result.code, result.stdout], [0, 'own\n'], result.stderr);
  });

  test('limits', async () => {
    const id = uniqueId('limits');
    const child = spawn(
      wherryBinary,
      ['launch', '--name', id, '--memory', '64m', '--cpus', '0.5', '--pids', '33', '--', 'sleep', '1000'],
      {
        env: wherry.env,
        stdio: 'ignore',
      },
    );
    const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    try {
      const pid = await eventually('it runs', async () => {
        const found = await wherry.run(['state', id]);
        const state =
          found.code === 0 ? (JSON.parse(found.stdout) as { pid: number; status: string }) : undefined;
        return state?.status === 'running' ? state.pid : undefined;
      });
      assert.equal(
        cgroupFile(pid, 'memory', 'memory.limit_in_bytes') ?? cgroupFile(pid, 'memory', 'memory.max'),
        '67108864',
      );
      assert.equal(cgroupFile(pid, 'pids', 'pids.max'), '33');
      assert.match(
        cgroupFile(pid, 'cpu', 'cpu.cfs_quota_us') ?? cgroupFile(pid, 'cpu', 'cpu.max') ?? '',
        /^50000\b/,
      );
    } finally {
      // sleep does not catch SIGINT, and process 1 ignores what it does not catch: Ctrl-C must end it all the same.
      child.kill('SIGINT');
    }
    assert.notEqual(await ended, 0);
  });

  test('exit codes of commands that cannot run', async () => {
    assert.equal((await launch('--', '/no/such/program')).code, 127);
    assert.equal((await launch('--', '/etc/passwd')).code, 126);
    assert.equal((await launch('--memory', 'much', '--', 'true')).code, 125);
  });

  test('a file that is no program: 126 and 127 as under docker, 255 of run and exec as in runc', async () => {
    const id = uniqueId('format');
    const bundle = await makeBundle(wherry.folder, id, ['/format']);
    const rootfs = join(bundle, 'rootfs');
    writeFileSync(join(rootfs, 'format'), 'hello\n', { mode: 0o755 });
    writeFileSync(join(rootfs, 'interpreter'), '#!/nowhere\n', { mode: 0o755 });
    const cases = [
      ['/format', 126, 'exec format error'],
      ['/interpreter', 127, 'no such file or directory'],
    ] as const;
    for (const [program, status, reason] of cases) {
      assert.deepEqual(await launch('--rootfs', rootfs, '--', program), {
        code: status,
        stdout: '',
        stderr: `exec ${program}: ${reason}\n`,
      });
      const name = uniqueId('detached');
      await wherry.must(['launch', '-d', '--name', name, '--rootfs', rootfs, '--', program]);
      assert.equal(await wherry.must(['wait', name]), `${status}\n`);
      assert.equal((await wherry.run(['logs', name])).stderr, `exec ${program}: ${reason}\n`);
      await wherry.must(['rm', name]);
    }
    const run = await wherry.run(['run', '-b', bundle, id]);
    assert.deepEqual([run.code, run.stderr], [255, 'exec /format: exec format error\n']);
    editConfig(bundle, ({ process }) => {
      process.args = ['/bin/sleep', '1000'];
    });
    await wherry.run(['run', '-d', '-b', bundle, id], { outputFile: '/dev/null' });
    const exec = await wherry.run(['exec', id, '/format']);
    assert.equal(exec.code, 255);
    assert.match(exec.stderr, /exec \/format: exec format error/);
    await wherry.must(['delete', '--force', id]);
  });

  test('explain lists steps with the fields that asked for them', async () => {
    const bundle = await makeBundle(wherry.folder, 'explain', ['/bin/true']);
    const text = await wherry.must(['explain', bundle]);
    for (const word of [
      'clone3',
      'pivot_root',
      'execve',
      'mounts[0]',
      'linux.maskedPaths[0]',
      'process.args',
    ]) {
      assert.ok(text.includes(word), `no ${word} in:\n${text}`);
    }
  });

  test('--version names every part', async () => {
    const text = await wherry.must(['--version']);
    for (const word of [
      'version',
      'commit:',
      'spec:',
      'client:',
      'keel:',
      'wherryd:',
      'node:',
      'libseccomp:',
    ]) {
      assert.ok(text.includes(word), `no ${word} in:\n${text}`);
    }
  });
});

describe('wherry daemon', () => {
  test('start, status, refusal to stop while a container runs, stop', async () => {
    await using wherry = new Wherry();
    const none = await wherry.run(['daemon', 'status']);
    assert.equal(none.code, 3);
    await wherry.must(['daemon', 'start']);
    assert.equal((await wherry.run(['daemon', 'status'])).code, 0);
    const id = uniqueId('busy');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000']);
    await wherry.run(['run', '-d', '-b', bundle, id], { outputFile: '/dev/null' });
    const refused = await wherry.run(['daemon', 'stop']);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /container/);
    await wherry.must(['delete', '--force', id]);
    await wherry.must(['daemon', 'stop']);
    await eventually(
      'its sockets are gone',
      () => !existsSync(join(wherry.runDir, 'keel.sock')) || undefined,
    );
    assert.equal((await wherry.run(['daemon', 'status'])).code, 3);
    assert.equal((await wherry.run(['daemon', 'stop'])).code, 0);
  });

  test('a command right after the stop starts a new daemon', async () => {
    await using wherry = new Wherry();
    for (let round = 0; round < 3; round += 1) {
      await wherry.must(['list', '-q']);
      await wherry.must(['daemon', 'stop']);
    }
  });

  test('six commands at once on a cold start share one daemon', async () => {
    await using wherry = new Wherry();
    const all = await Promise.all(Array.from({ length: 6 }, () => wherry.run(['list', '-q'])));
    for (const one of all) assert.deepEqual([one.code, one.stderr], [0, '']);
  });
});

describe('the built tree', () => {
  test('works through a symbolic link on PATH and from another folder', async () => {
    await using wherry = new Wherry();
    const bin = join(wherry.folder, 'bin');
    mkdirSync(bin);
    symlinkSync(wherryBinary, join(bin, 'wherry'));
    const linked = await run('sh', ['-c', 'wherry --version'], {
      env: { ...wherry.env, PATH: `${bin}:${wherry.env['PATH']}` },
      cwd: '/',
    });
    assert.equal(linked.code, 0, linked.stderr);
    await wherry.must(['daemon', 'stop', '--force']);
    const moved = join(wherry.folder, 'moved');
    await must('cp', ['-a', dist, moved], { timeout: 60_000 });
    const result = await run(join(moved, 'bin/wherry'), ['--version'], { env: wherry.env, cwd: '/' });
    assert.equal(result.code, 0, result.stderr);
    assert.equal(result.stdout, linked.stdout);
  });
});
