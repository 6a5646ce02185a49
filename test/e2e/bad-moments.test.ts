/** A full disk, and a client that is killed in the middle of its command: nothing is left, and the daemon serves the next call. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { editConfig, makeBundle } from '../support/bundle.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { temporaryFolder, uniqueId } from '../support/paths.ts';
import { eventually, must, type RunResult, run } from '../support/run.ts';
import { daemonPids, Wherry } from '../support/wherry.ts';

function nothingLeft(id: string, states: string): void {
  assert.deepEqual(
    [...allCgroups(), ...mounts(), ...(existsSync(states) ? readdirSync(states) : [])].filter((one) =>
      one.includes(id),
    ),
    [],
  );
}

/** A file system of `size` that `fill` makes full. */
class SmallDisk implements AsyncDisposable {
  readonly folder: string;
  private constructor(folder: string) {
    this.folder = folder;
  }
  static async make(parent: string, size: string): Promise<SmallDisk> {
    const folder = join(parent, 'disk');
    mkdirSync(folder);
    await must('mount', ['-t', 'tmpfs', '-o', `size=${size},nr_inodes=1500,mode=700`, 'tmpfs', folder]);
    return new SmallDisk(folder);
  }
  async fill(): Promise<void> {
    const filler = join(this.folder, 'filler');
    mkdirSync(filler);
    await run('dd', ['if=/dev/zero', `of=${filler}/bytes`, 'bs=4096']);
    try {
      for (let count = 0; ; count += 1) writeFileSync(join(filler, String(count)), '');
    } catch (error) {
      assert.match(String(error), /ENOSPC/);
    }
  }
  free(): void {
    rmSync(join(this.folder, 'filler'), { recursive: true });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await must('umount', [this.folder]);
  }
}

describe('a full disk', () => {
  const plain = ({ code, stderr }: RunResult, name: string, expected = 1): void => {
    assert.equal(code, expected, `${name}: ${stderr}`);
    assert.match(stderr, /^[^\n]*no space left on device[^\n]*\n$/i, name);
  };

  test('under the run folder', async () => {
    const folder = temporaryFolder();
    const disk = await SmallDisk.make(folder, '2m');
    try {
      const wherry = new Wherry();
      const runDir = join(disk.folder, 'w');
      const env = { ...wherry.env, WHERRY_RUN_DIR: runDir };
      mkdirSync(runDir, { mode: 0o700 });
      const call = (...args: string[]) => run(wherry.command, args, { env, outputFile: undefined });
      try {
        const id = uniqueId('run');
        const bundle = await makeBundle(folder, id, ['/bin/echo', 'ran'], (config) => {
          config.linux['cgroupsPath'] = `/${id}`;
        });
        assert.equal((await call('run', '-b', bundle, id)).stdout, 'ran\n');
        const { stdout } = await call('daemon', 'status', '--format', 'json');
        await disk.fill();
        plain(await call('run', '-b', bundle, id), 'run');
        plain(await call('create', '-b', bundle, id), 'create');
        plain(await call('launch', '--', '/bin/true'), 'launch', 125);
        nothingLeft(id, join(runDir, 'containers/local/default'));
        // What needs no room goes on.
        assert.equal((await call('list', '-q')).code, 0);
        disk.free();
        assert.equal((await call('run', '-b', bundle, id)).stdout, 'ran\n');
        const later = await call('daemon', 'status', '--format', 'json');
        assert.equal(daemonPids(later.stdout).wherryd, daemonPids(stdout).wherryd);
      } finally {
        await call('daemon', 'stop', '--force');
        await wherry[Symbol.asyncDispose]();
      }
    } finally {
      await disk[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    }
  });

  test('under the bundle, and under the pid file', async () => {
    await using wherry = new Wherry();
    await using disk = await SmallDisk.make(wherry.folder, '8m');
    const id = uniqueId('bundle');
    const bundle = await makeBundle(disk.folder, id, ['/bin/echo', 'ran'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
      config.root.readonly = false;
      config.mounts.push({ destination: '/a/new/place', type: 'tmpfs', source: 'tmpfs' });
    });
    const states = join(wherry.runDir, 'containers/local/default');
    const pidFile = join(disk.folder, 'pid');
    // The daemon is there before the disk is full.
    await wherry.must(['list']);
    await disk.fill();
    plain(await wherry.run(['run', '-b', bundle, id]), 'a place to mount on');
    nothingLeft(id, states);
    editConfig(bundle, (config) => {
      config.mounts.pop();
    });
    const refused = await wherry.run(['run', '--pid-file', pidFile, '-b', bundle, id]);
    plain(refused, 'the pid file');
    assert.match(refused.stderr, /--pid-file/);
    nothingLeft(id, states);
    assert.deepEqual(readdirSync(disk.folder).sort(), [id, 'filler'].sort(), 'no half a pid file');
    disk.free();
    assert.equal(await wherry.must(['run', '--pid-file', pidFile, '-b', bundle, id]), 'ran\n');
  });
});

describe('a client that is killed', () => {
  let wherry: Wherry;
  let daemon: number;
  before(async () => {
    wherry = new Wherry();
    await wherry.must(['daemon', 'start']);
    daemon = (await wherry.daemon()).wherryd;
  });
  after(() => wherry[Symbol.asyncDispose]());

  /** Kills `wherry args` after so many ms; true: it had not ended yet. */
  function killed(args: readonly string[], delay: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const child = spawn(wherry.command, args, { env: wherry.env, stdio: 'ignore' });
      child.once('error', reject);
      child.once('exit', (_code, signal) => resolve(signal === 'SIGKILL'));
      setTimeout(() => child.kill('SIGKILL'), delay);
    });
  }

  for (const command of ['create', 'run', 'launch'] as const) {
    test(`in the middle of ${command}`, async () => {
      const id = uniqueId(command);
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
        config.linux['cgroupsPath'] = `/${id}`;
      });
      const words =
        command === 'launch' ? ['launch', '--name', id, '--', 'sleep', '1000'] : [command, '-b', bundle, id];
      for (let round = 0; round < 24; round += 1) {
        await killed(words, round * 2);
        // As under runc what was made stays and has its name; a launch has nobody else who knows it.
        if (command !== 'launch') await wherry.must(['delete', '--force', id]);
        await eventually(`nothing is left of round ${round}`, async () => {
          assert.match((await wherry.run(['state', id])).stderr, /does not exist/);
          nothingLeft(id, join(wherry.runDir, 'containers/local/default'));
          return true;
        });
      }
      const launches = join(wherry.runDir, 'launch');
      await eventually(
        'no folder of a launch is left',
        () => !existsSync(launches) || readdirSync(launches).length === 0 || undefined,
      );
      assert.equal((await wherry.daemon()).wherryd, daemon);
    });
  }

  test('in the middle of exec: the container goes on', async () => {
    const id = uniqueId('exec');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000']);
    writeFileSync(join(wherry.folder, 'out'), '');
    await wherry.run(['run', '-d', '-b', bundle, id], { outputFile: join(wherry.folder, 'out') });
    for (let round = 0; round < 16; round += 1) await killed(['exec', id, '/bin/sleep', '1000'], round * 2);
    assert.equal(await wherry.must(['exec', id, 'echo', 'still here']), 'still here\n');
    await wherry.must(['kill', id, 'KILL']);
    await eventually(
      'it has stopped',
      async () => /"stopped"/.test(await wherry.must(['state', id])) || undefined,
    );
    await wherry.must(['delete', id]);
    assert.equal((await wherry.daemon()).wherryd, daemon);
  });
});
