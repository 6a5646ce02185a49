/** Another installation's programs take the place of keel and wherryd while containers, streams, terminals and waits go on. */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { cpSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, follow, must, type RunResult, run } from '../support/run.ts';

const timeout = 120_000;
const runtime = 'io.containerd.wherry.v1';
const CONTAINERS = 50;

describe('an upgrade under containerd 2.1', () => {
  let containerd: Containerd;
  let next: string;
  before(async () => {
    containerd = await Containerd.start('2.1');
    next = installation('next');
  });
  after(() => containerd?.[Symbol.asyncDispose]());

  function installation(name: string): string {
    const folder = join(containerd.folder, name);
    cpSync(dist, folder, { recursive: true, verbatimSymlinks: true });
    return folder;
  }
  const env = () => ({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: containerd.runDir });
  const wherry = (folder: string, ...args: string[]): Promise<RunResult> =>
    run(join(folder, 'bin/wherry'), args, { env: env(), timeout });
  const daemon = async (): Promise<{ keel: number; wherryd: number; containers: number }> => {
    const { stdout } = await must(join(dist, 'bin/wherry'), ['daemon', 'status', '-f', 'json'], {
      env: env(),
      timeout,
    });
    const status = JSON.parse(stdout) as {
      keel: { pid: number };
      wherryd: { pid: number };
      containers: number;
    };
    return { keel: status.keel.pid, wherryd: status.wherryd.pid, containers: status.containers };
  };
  const programOf = (pid: number): string => readlinkSync(`/proc/${pid}/exe`);
  const ctr = (...args: string[]): ChildProcessWithoutNullStreams =>
    spawn(containerd.ctrPath, [...containerd.globalFlags, ...args], { stdio: 'pipe' });
  const pids = async (): Promise<string[]> =>
    [...(await containerd.tasks())]
      .filter(([, { status }]) => status === 'RUNNING')
      .map(([id, { pid }]) => `${id} ${pid}`)
      .sort();
  /** Every number from 1 to the last once and in order. */
  const assertWhole = (text: string, what: string): void => {
    const numbers = text.split('\n').filter((line) => /^n\d+$/.test(line));
    assert.ok(numbers.length > 100, `${what}: ${text.slice(-200)}`);
    numbers.forEach((line, index) => {
      assert.equal(line, `n${index + 1}`, what);
    });
    assert.match(text, new RegExp(`end ${numbers.length}\n`), what);
  };
  const counting = (until: string): string =>
    `i=0; trap "go=no" USR1; go=yes; echo ready; while [ $go = yes ]; do i=$((i+1)); echo n$i; ${until}; done; echo end $i; exit 7`;

  test('no byte, exit status or process is lost, by any of its programs', async () => {
    const before = await daemonAfterContainers();
    const running = await pids();
    assert.equal(running.length, CONTAINERS);

    // Init's own FIFO; a pipe that keel copies; a terminal that keel copies; a command line that waits for its child.
    const stream = uniqueId('stream');
    const container = ctr(
      'run',
      '--rm',
      '--runtime',
      runtime,
      imageName,
      stream,
      '/bin/sh',
      '-c',
      counting('usleep 1000'),
    );
    const output = follow(container);
    await eventually('it writes', () => output.text.includes('n10\n') || undefined, timeout);
    const exec = ctr(
      'task',
      'exec',
      '--exec-id',
      'e1',
      stream,
      '/bin/sh',
      '-c',
      `echo $$ > /tmp/pid; ${counting('usleep 1000')}`,
    );
    const executed = follow(exec);
    const line = [containerd.ctrPath, ...containerd.globalFlags]
      .concat('run', '--rm', '-t', '--runtime', runtime, imageName, uniqueId('tty'))
      .concat(
        '/bin/sh',
        '-c',
        'stty -echo; echo ready; while read l && [ "$l" != bye ]; do echo "got $l"; done; exit 9',
      )
      .map((word) => `'${word}'`)
      .join(' ');
    const terminal = spawn('script', ['-qec', line, '/dev/null'], { stdio: 'pipe' });
    const shown = follow(terminal);
    const id = uniqueId('cli');
    const bundle = await makeBundle(containerd.folder, id, [
      '/bin/sh',
      '-c',
      'echo up; read l; echo "$l"; exit 4',
    ]);
    const foreground = spawn(join(dist, 'bin/wherry'), ['run', '-b', bundle, id], {
      env: env(),
      stdio: 'pipe',
    });
    const cli = follow(foreground);
    await eventually(
      'all run',
      () =>
        (executed.text.includes('n10\n') && shown.text.includes('ready') && cli.text.includes('up')) ||
        undefined,
      timeout,
    );
    const typed = async (word: string): Promise<void> => {
      terminal.stdin.write(`${word}\n`);
      await eventually(`${word} comes back`, () => shown.text.includes(`got ${word}`) || undefined, timeout);
    };
    await typed('before');

    const upgraded = await wherry(next, 'upgrade');
    assert.deepEqual([upgraded.code, upgraded.stderr], [0, '']);
    assert.match(upgraded.stdout, /the daemon runs build /);
    const now = await daemon();
    assert.equal(now.keel, before.keel, 'children stay children');
    assert.notEqual(now.wherryd, before.wherryd);
    assert.equal(programOf(now.keel), join(next, 'libexec/wherry/keel'));
    assert.equal(readFileSync(`/proc/${now.keel}/comm`, 'latin1'), 'keel\n');
    await typed('between');
    // The same programs once more, as a service manager's reload does it.
    process.kill(now.keel, 'SIGHUP');
    await eventually(
      'another wherryd',
      async () => (await daemon()).wherryd !== now.wherryd || undefined,
      timeout,
    );
    await typed('after');

    const still = await pids();
    assert.deepEqual(
      running.filter((line) => !still.includes(line)),
      [],
      'every container with its pid',
    );
    assert.doesNotMatch(containerd.log(), /shim disconnected/, 'no connection was closed');
    terminal.stdin.write('bye\n');
    foreground.stdin.write('typed\n');
    const { stdout } = await must(
      containerd.ctrPath,
      [
        ...containerd.globalFlags,
        'task',
        'exec',
        '--exec-id',
        'e2',
        stream,
        '/bin/sh',
        '-c',
        'kill -USR1 $(cat /tmp/pid)',
      ],
      { timeout },
    );
    assert.equal(stdout, '');
    await eventually('the exec ends', () => executed.code !== undefined || undefined, timeout);
    await containerd.mustCtr(['task', 'kill', '-s', 'SIGUSR1', stream]);
    await eventually(
      'all end',
      () => (output.code !== undefined && shown.code !== undefined && cli.code !== undefined) || undefined,
      timeout,
    );
    assert.deepEqual([output.code, shown.code, cli.code], [7, 9, 4], [shown.text, cli.text].join('\n---\n'));
    assert.equal(cli.text.replace(/^wherry: .*\n/m, ''), 'up\ntyped\n');
    assertWhole(output.text, 'the stream of the container');
    assertWhole(executed.text, 'the stream of the exec');
  });

  async function daemonAfterContainers(): ReturnType<typeof daemon> {
    const start = async (): Promise<unknown> =>
      containerd.mustCtr([
        'run',
        '-d',
        '--runtime',
        runtime,
        imageName,
        uniqueId('stays'),
        '/bin/sleep',
        '10000',
      ]);
    for (let left = CONTAINERS; left > 0; left -= 5) await Promise.all(Array.from({ length: 5 }, start));
    return daemon();
  }

  test('programs that do not come up: the ones before come back, and nothing has happened', async () => {
    const before = await daemon();
    const running = await pids();
    const program = programOf(before.keel);
    const broken = installation('broken');
    const path = join(broken, 'libexec/wherry/wherryd.mjs');
    rmSync(path);
    writeFileSync(path, 'process.stderr.write("a broken build\\n"); process.exit(3);\n');
    const undone = await wherry(broken, 'upgrade');
    assert.equal(undone.code, 1);
    assert.match(undone.stderr, /the upgrade was undone: wherryd does not come up: .*a broken build/);
    const now = await daemon();
    assert.equal(now.keel, before.keel);
    assert.equal(programOf(now.keel), program);

    const keel = join(broken, 'libexec/wherry/keel');
    rmSync(keel);
    writeFileSync(keel, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const refused = await wherry(broken, 'upgrade');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /cannot take over.*nothing has changed/);
    assert.deepEqual(await daemon(), now, 'not even wherryd was disturbed');
    assert.deepEqual(await pids(), running);
    // Exits are still told.
    const ids = running.map((one) => one.split(' ')[0]!);
    const some = ids.slice(0, 3);
    for (const id of some) await containerd.mustCtr(['task', 'kill', '-s', 'SIGKILL', id]);
    await eventually(
      'they have stopped',
      async () => (await pids()).length === running.length - some.length || undefined,
      timeout,
    );
  });
});
