import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
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

  override async create(...args: Parameters<MemoryRuntime['create']>) {
    const [{ bundle }] = args;
    this.rootfs = await readdir(bundle);
    return super.create(...args);
  }
}

async function nothingLeft(): Promise<void> {
  assert.deepEqual(await readdir(join(runDir, 'launch')), []);
}

describe('launch', () => {
  it("runs in a view of the host's root that is gone afterwards", async () => {
    const runtime = new Looking();
    const { code, waits, config } = await launch(['--', 'sh', '-c', 'exit 3'], {
      runtime,
      waitStatus: 3 << 8,
    });
    assert.equal(code, 3);
    assert.deepEqual(waits, [{ pid: 4711, flags: KILL_IF_UNHANDLED }]);
    const [request] = runtime.created;
    assert.equal(request?.startAtOnce, true);
    assert.ok(request?.bundle.startsWith(join(runDir, 'launch/')));
    assert.deepEqual(runtime.rootfs, ['rootfs']);
    assert.deepEqual(request.rootfsOverlay, { lower: '/' });
    assert.deepEqual(request.rootfsMounts, []);
    assert.equal(config?.root.path, 'rootfs');
    assert.deepEqual(config.process.args, ['sh', '-c', 'exit 3']);
    assert.match(request.key.id, /^[a-z]+-[a-z]+-\d{4}$/);
    assert.equal(config.hostname, request.key.id);
    assert.equal(config.process.noNewPrivileges, true);
    assert.equal(config.process.capabilities?.bounding?.length, 14);
    assert.equal(config.linux?.seccomp?.defaultAction, 'SCMP_ACT_ERRNO');
    assert.ok(config.linux.namespaces?.some(({ type }) => type === 'network'));
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
    const { code, config, runtime, err } = await launch(argv, { env: { B: 'b=b', D: 'd' } });
    assert.deepEqual([code, err], [0, '']);
    const { process: program, root, hostname, linux } = config!;
    assert.deepEqual(program.args, ['/bin/id', '-u']);
    assert.deepEqual(
      program.env?.filter((entry) => /^[A-D]=/.test(entry)),
      ['A=2', 'B=b=b'],
    );
    assert.deepEqual([program.cwd, program.user, program.terminal], ['/tmp', { uid: 1, gid: 2 }, false]);
    assert.deepEqual([root, hostname], [{ path: join(runDir, 'root'), readonly: true }, 'h']);
    assert.equal(linux?.resources?.memory?.limit, 64 * 2 ** 20);
    assert.equal(linux?.resources?.cpu?.quota, 150_000);
    assert.equal(linux?.resources?.pids?.limit, 7);
    assert.equal(runtime.created[0]?.key.id, 'n1');
    assert.ok(!linux?.namespaces?.some(({ type }) => type === 'network'));
    assert.equal(runtime.created[0]?.rootfsOverlay, undefined);
    await nothingLeft();
  });

  it('-t relays a terminal', async () => {
    const { waits, config, runtime } = await launch(['-t', '--rootfs', 'root', 'sh'], {
      isTerminal: [true, true, true],
      env: { TERM: 'vt100' },
    });
    assert.deepEqual(waits, [{ pid: 4711, flags: RELAY }]);
    assert.ok(config?.process.env?.includes('TERM=vt100'));
    assert.deepEqual(
      [runtime.created[0]?.caller?.relayConsole, runtime.created[0]?.stdio.terminal],
      [true, true],
    );
  });

  for (const vanish of ['in create', 'in wait'] as const) {
    it(`a caller that goes away ${vanish} leaves nothing`, async () => {
      const { runtime } = await launch(['sleep', '100'], { vanish });
      assert.equal(runtime.deleted.length, 1);
      assert.equal(runtime.containers.size, 0);
      await nothingLeft();
    });
  }

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
    assert.ok(existsSync(join(runtime.created[0]!.bundle, 'rootfs/busy')));
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
        ['--env', '=x', 'sh'],
        'launch failed: invalid value "=x" for flag --env: expected KEY=VALUE, or KEY to hand on the value of the caller',
      ],
      [
        ['--hostname', 'h'.repeat(64), 'sh'],
        `launch failed: invalid value "${'h'.repeat(64)}" for flag --hostname: expected at most 63 bytes`,
      ],
      [
        ['-w', 'tmp', 'sh'],
        'launch failed: invalid value "tmp" for flag --workdir: expected an absolute path',
      ],
      [['-m', 'lots', 'sh'], 'launch failed: --memory: expected a size such as 64m or 1.5g, found "lots"'],
      [
        ['--cpus', '0', 'sh'],
        'launch failed: --cpus: expected a number of processors such as 1.5, at least 0.01, found "0"',
      ],
      [
        ['--pids', '-1', 'sh'],
        'launch failed: --pids: expected a number of processes from 1 to 4194304, found "-1"',
      ],
      [
        ['-u', 'nobody-of-that-name', 'sh'],
        'launch failed: --user: unable to find user nobody-of-that-name: no matching entries in passwd file; give its number',
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
