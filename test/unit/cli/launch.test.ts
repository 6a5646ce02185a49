import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { WherryError } from '../../../src/errors.ts';
import { type CallOptions, call, MemoryRuntime } from './support.ts';

let runDir = '';
before(async () => {
  runDir = await mkdtemp(join(tmpdir(), 'wherry-cli-launch-'));
  await mkdir(join(runDir, 'root'));
});
after(async () => {
  await rm(runDir, { recursive: true, force: true });
});

const KILL_IF_UNHANDLED = 2;
const RELAY = 1;

const launch = (argv: string[], options: CallOptions = {}) =>
  call(['launch', ...argv], { cwd: runDir, ...options, deps: { paths: { runDir }, ...options.deps } });

/** Looks at the folder while the container is there. */
class Looking extends MemoryRuntime {
  rootfs: string[] = [];
  upperMode = 0;

  override async create(...args: Parameters<MemoryRuntime['create']>) {
    const [{ bundle, rootfsMounts }] = args;
    this.rootfs = await readdir(bundle);
    const upper = rootfsMounts[0]?.options.find((option) => option.startsWith('upperdir='))?.slice(9);
    if (upper !== undefined) this.upperMode = (await stat(upper)).mode & 0o777;
    return super.create(...args);
  }
}

async function nothingLeft(): Promise<void> {
  assert.deepEqual(await readdir(join(runDir, 'launch')), []);
}

function exited(runtime: MemoryRuntime): string {
  return (
    runtime.created[0]!.rootfsMounts[0]?.options.find((option) => option.startsWith('upperdir='))?.slice(9) ??
    ''
  );
}

describe('launch', () => {
  it("runs in a view of the host's root that is gone afterwards", async () => {
    const runtime = new Looking();
    const { code, waits, launches } = await launch(['--', 'sh', '-c', 'exit 3'], {
      runtime,
      waitStatus: 3 << 8,
    });
    assert.equal(code, 3);
    assert.deepEqual(waits, [{ pid: 4711, flags: KILL_IF_UNHANDLED }]);
    const [request] = runtime.created;
    assert.equal(request?.startAtOnce, true);
    assert.ok(request?.bundle.startsWith(join(runDir, 'launch/')));
    assert.ok(runtime.rootfs.includes('rootfs'));
    const [overlay, ...others] = request.rootfsMounts;
    assert.deepEqual(others, []);
    assert.deepEqual([overlay?.type, overlay?.target, overlay?.options[0]], ['overlay', '', 'lowerdir=/']);
    assert.equal(runtime.upperMode, 0o755);
    assert.equal(launches[0]?.rootfs, 'rootfs');
    assert.deepEqual(launches[0]?.args, ['sh', '-c', 'exit 3']);
    assert.match(launches[0]!.id, /^[a-z]+-[a-z]+-\d{4}$/);
    assert.equal(launches[0]?.hostname, launches[0]?.id);
    assert.deepEqual(launches[0]?.env, ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']);
    assert.equal(existsSync(exited(runtime)), false);
    await nothingLeft();
  });

  it('hands on its flags', async () => {
    const argv = [
      '--rootfs',
      'root',
      '--read-only',
      '-m',
      '64m',
      '--cpus',
      '1.5',
      '--pids',
      '7',
      '--name',
      'n1',
      '--hostname',
      'h',
      '-e',
      'A=1',
      '-e',
      'B',
      '-e',
      'C',
      '-e',
      'A=2',
      '-w',
      '/tmp',
      '-u',
      '1:2',
      '--network',
      'host',
      '/bin/id',
      '-u',
    ];
    const { code, launches, runtime } = await launch(argv, { env: { B: 'b=b', D: 'd' } });
    assert.equal(code, 0);
    assert.deepEqual(launches, [
      {
        id: 'n1',
        hostname: 'h',
        args: ['/bin/id', '-u'],
        env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'A=2', 'B=b=b'],
        cwd: '/tmp',
        user: '1:2',
        terminal: false,
        rootfs: join(runDir, 'root'),
        readonly: true,
        memory: '64m',
        cpus: '1.5',
        pids: '7',
        network: 'host',
      },
    ]);
    assert.deepEqual(runtime.created[0]?.rootfsMounts, []);
    await nothingLeft();
  });

  it('-t relays a terminal', async () => {
    const { waits, launches, runtime } = await launch(['-t', '--rootfs', 'root', 'sh'], {
      isTerminal: [true, true, true],
      env: { TERM: 'vt100' },
    });
    assert.deepEqual(waits, [{ pid: 4711, flags: RELAY }]);
    assert.ok(launches[0]?.env.includes('TERM=vt100'));
    assert.deepEqual(
      [runtime.created[0]?.caller?.relayConsole, runtime.created[0]?.stdio.terminal],
      [true, true],
    );
  });

  it('a caller that goes away leaves nothing', async () => {
    const { runtime } = await launch(['sleep', '100'], { vanish: true });
    assert.equal(runtime.deleted.length, 1);
    assert.equal(runtime.containers.size, 0);
    assert.equal(existsSync(exited(runtime)), false);
    await nothingLeft();
  });

  it('a root filesystem that is still mounted is left alone', async () => {
    class Stuck extends MemoryRuntime {
      override async create(...args: Parameters<MemoryRuntime['create']>) {
        // What rmdir cannot remove stands for a mount point here.
        await mkdir(join(args[0].bundle, 'rootfs/busy'));
        return super.create(...args);
      }
    }
    const runtime = new Stuck();
    const warnings: string[] = [];
    const log = { debug() {}, error() {}, warn: (text: string) => void warnings.push(text) };
    const { code } = await launch(['true'], { runtime, deps: { log } });
    assert.equal(code, 0);
    assert.deepEqual(warnings, ['launch left a folder behind']);
    assert.ok(existsSync(exited(runtime)));
    await rm(exited(runtime).replace(/\/upper$/, ''), { recursive: true });
    await rm(join(runDir, 'launch'), { recursive: true });
    await mkdir(join(runDir, 'launch'));
  });

  it("keeps docker's statuses for its own errors", async () => {
    const program = { path: 'process.args[0]' };
    const cases: [WherryError, number][] = [
      [new WherryError('internal', 'mount tmpfs on /dev: permission denied', { path: 'mounts[1]' }), 125],
      [new WherryError('not-found', 'exec: "/bin/x": stat /bin/x: no such file or directory', program), 127],
      [new WherryError('not-found', 'exec: "x": executable file not found in $PATH', program), 127],
      [new WherryError('permission-denied', 'exec: "/etc": permission denied', program), 126],
      [new WherryError('unknown', 'execve /x: exec format error', { syscall: 'execve' }), 126],
      [new WherryError('invalid-argument', 'config.json: process.args: expected a list', program), 125],
    ];
    for (const [error, expected] of cases) {
      const runtime = new MemoryRuntime();
      runtime.failCreate = error;
      const { code, err } = await launch(['x'], { runtime });
      assert.equal(code, expected, error.message);
      assert.ok(err.startsWith(`wherry launch failed: ${error.message}`), err);
      await nothingLeft();
    }
  });

  it('bad flags are told before anything is made', async () => {
    const cases: [string[], string][] = [
      [
        ['-t', 'sh'],
        'launch failed: cannot allocate tty: the caller has no terminal (--tty); leave it out, or call from a terminal',
      ],
      [
        ['--name', 'a/b', 'sh'],
        'launch failed: invalid container ID format: "a/b" (--name); use letters, digits and _ + , - . only',
      ],
      [
        ['--rootfs', 'nope', 'sh'],
        'launch failed: chdir nope: no such file or directory (--rootfs); name the folder that is to be "/" inside',
      ],
      [
        ['--rootfs', 'root', '--env', '=x', 'sh'],
        'launch failed: invalid value "=x" for flag --env: the name is empty; write KEY=VALUE, or KEY to hand on the value that the caller has',
      ],
      [
        ['--rootfs', 'root', '--hostname', 'h'.repeat(65), 'sh'],
        'launch failed: invalid value for flag --hostname: 65 characters; at most 64 are allowed',
      ],
    ];
    for (const [argv, text] of cases) {
      const { code, err, runtime } = await launch(argv);
      assert.deepEqual([code, err], [125, `wherry ${text}\n`]);
      assert.deepEqual(runtime.created, []);
    }
    assert.equal((await launch(['--frob', 'sh'])).code, 125);
    assert.equal((await launch([])).code, 125);
    await nothingLeft();
  });
});
