/** Detached containers of `launch`: logs, attach, stop, wait, rm, ps, stats, inspect; and that they outlive wherryd. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { uniqueId, wherryBinary } from '../support/paths.ts';
import { eventually, run } from '../support/run.ts';
import { Tmux } from '../support/tmux.ts';
import { Wherry } from '../support/wherry.ts';

interface Row {
  id: string;
  status: string;
  pid: number;
  exitStatus?: number;
}

describe('detached containers', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });
  const launch = async (flags: string[], ...command: string[]): Promise<string> => {
    const id = uniqueId('detached');
    const printed = await wherry.must(['launch', '-d', '--name', id, ...flags, '--', ...command]);
    assert.equal(printed, `${id}\n`);
    return id;
  };
  const table = async (): Promise<Row[]> =>
    JSON.parse(await wherry.must(['ps', '--format', 'json'])) as Row[];
  const ended = (id: string) =>
    eventually(`${id} has ended`, async () =>
      (await table()).find((row) => row.id === id && row.status === 'stopped'),
    );
  /** Folders go a moment after their containers. */
  const noFolder = () =>
    eventually('no folder is left', async () =>
      readdirSync(join(wherry.runDir, 'launch')).length === 0 ? true : undefined,
    );

  test('logs keep both streams, to the last byte; wait and rm', async () => {
    const id = await launch([], 'sh', '-c', 'echo out; echo err >&2; printf end; exit 3');
    assert.equal(await wherry.must(['wait', id]), '3\n');
    const logs = await wherry.run(['logs', id]);
    assert.deepEqual([logs.stdout, logs.stderr], ['out\nend', 'err\n']);
    assert.equal((await wherry.run(['logs', '--tail', '1', id])).stdout, 'end');
    assert.match(await wherry.must(['logs', '-t', id]), /^\d{4}-\d\d-\d\dT[\d:.]+Z out\n\d{4}-\S+ end$/);
    const objects = (await wherry.must(['logs', '--format', 'json', id])).trim().split('\n');
    const texts = objects.map((line) => JSON.parse(line) as { stream: string; text: string });
    assert.ok(texts.some(({ stream, text }) => stream === 'stderr' && text === 'err\n'));
    assert.equal((await table()).find((row) => row.id === id)?.exitStatus, 3);
    await wherry.must(['rm', id]);
    assert.equal((await wherry.run(['logs', id])).code, 1);
    await noFolder();
  });

  test('logs --follow tells what is there, what comes, and ends with the container', async () => {
    const gate = join(wherry.folder, 'gate');
    writeFileSync(gate, '');
    const id = await launch(
      ['-v', `${wherry.folder}:/mnt`],
      'sh',
      '-c',
      'echo one; while [ -e /mnt/gate ]; do sleep 0.1; done; echo two',
    );
    await eventually('the first line', async () =>
      (await wherry.must(['logs', id])) === 'one\n' ? true : undefined,
    );
    const following = wherry.run(['logs', '-f', id]);
    await run('rm', [gate]);
    const { code, stdout } = await following;
    assert.deepEqual([code, stdout], [0, 'one\ntwo\n']);
    await wherry.must(['rm', id]);
  });

  test('--rm: gone after its end, with its folder', async () => {
    const id = await launch(['--rm'], 'true');
    await eventually(`${id} has gone`, async () =>
      (await table()).some((row) => row.id === id) ? undefined : true,
    );
    await noFolder();
  });

  test('stop: SIGTERM to who heeds it, SIGKILL to others', async () => {
    const heeds = await launch(
      [],
      'sh',
      '-c',
      "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done",
    );
    await eventually('ready', async () =>
      (await wherry.must(['logs', heeds])).includes('ready') ? true : undefined,
    );
    const deaf = await launch([], 'sleep', '1000');
    await wherry.must(['stop', heeds, deaf]);
    assert.equal(await wherry.must(['wait', heeds, deaf]), '5\n137\n');
    assert.match(await wherry.must(['logs', heeds]), /bye/);
    await wherry.must(['rm', heeds, deaf]);
  });

  test('rm refuses what runs, -f does not; an unknown name is told', async () => {
    const id = await launch([], 'sleep', '1000');
    const refused = await wherry.run(['rm', id]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /running/);
    await wherry.must(['rm', '-f', id]);
    const unknown = await wherry.run(['stop', 'no-such']);
    assert.deepEqual([unknown.code, /container does not exist/.test(unknown.stderr)], [1, true]);
    await noFolder();
  });

  test('a wherryd that dies loses nothing: log, input, end', async () => {
    const id = await launch(['-i'], 'sh', '-c', 'echo before; read -r line; echo "after $line"; exit 7');
    await eventually('before', async () =>
      (await wherry.must(['logs', id])) === 'before\n' ? true : undefined,
    );
    const { pid } = (await table()).find((row) => row.id === id)!;
    process.kill((await wherry.daemon()).wherryd, 'SIGKILL');
    const attached = await run('sh', ['-c', `(echo word; sleep 3) | ${wherryBinary} attach ${id}`], {
      env: wherry.env,
    });
    assert.deepEqual([attached.code, attached.stdout], [7, 'after word\n'], attached.stderr);
    assert.equal((await ended(id)).id, id);
    assert.equal(await wherry.must(['logs', id]), 'before\nafter word\n');
    assert.ok(pid > 0);
    await wherry.must(['rm', id]);
  });

  test('stats, inspect, ps', async () => {
    const id = await launch(['--memory', '64m'], 'sleep', '1000');
    const [line = ''] = (
      await wherry.must(['stats', '--no-stream', '--interval', '200ms', '--format', 'json', id])
    ).split('\n');
    const sample = JSON.parse(line) as { id: string; memoryLimit: number; pids: number; memory: number };
    assert.deepEqual([sample.id, sample.memoryLimit, sample.pids], [id, 64 << 20, 1]);
    assert.ok(sample.memory > 0);
    assert.match(
      await wherry.must(['stats', '--no-stream', '--interval', '200ms']),
      new RegExp(`^${id} .*64\\.0 MiB`, 'm'),
    );
    const [found] = JSON.parse(await wherry.must(['inspect', id])) as [
      { id: string; process: { args: string[] } },
    ];
    assert.deepEqual([found.id, found.process.args], [id, ['sleep', '1000']]);
    assert.match(await wherry.must(['ps']), new RegExp(`^${id} +running +\\d+ +default`, 'm'));
    await wherry.must(['rm', '-f', id]);
  });

  test('flags: env file, volume, capabilities, users by name', async () => {
    const bundle = await makeBundle(wherry.folder, 'users', ['true']);
    const rootfs = join(bundle, 'rootfs');
    writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1234:4321::/tmp:/bin/sh\n');
    writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\nstaff:x:50:ann\ncrew:x:77:\n');
    writeFileSync(join(wherry.folder, 'env'), '# no\n\nA=1 2\nHOME\nUNSET_ANYWHERE\n');
    const inside = async (flags: string[], script: string) =>
      (
        await wherry.must([
          'launch',
          '--name',
          uniqueId('flags'),
          '--rootfs',
          rootfs,
          ...flags,
          '--',
          '/bin/sh',
          '-c',
          script,
        ])
      ).trim();
    assert.equal(
      await inside(
        ['--env-file', join(wherry.folder, 'env'), '-e', 'B=2'],
        'echo "$A-$B-$HOME-$UNSET_ANYWHERE"',
      ),
      `1 2-2-${process.env['HOME']}-`,
    );
    assert.equal(
      await inside(['--user', 'ann'], 'id -u; id -g; id -G; echo $HOME'),
      '1234\n4321\n4321 50\n/tmp',
    );
    assert.equal(await inside(['--user', 'ann:crew'], 'id -u; id -g'), '1234\n77');
    const id = await launch(['--rootfs', rootfs], '/bin/sleep', '1000');
    assert.equal(await wherry.must(['exec', '--user', 'ann', id, '/bin/id', '-u']), '1234\n');
    assert.match((await wherry.run(['exec', '--user', 'bob', id, 'true'])).stderr, /unable to find user bob/);
    await wherry.must(['rm', '-f', id]);
    const unknown = await wherry.run(['launch', '--rootfs', rootfs, '--user', 'bob', '--', '/bin/true']);
    assert.deepEqual(
      [unknown.code, /unable to find user bob/.test(unknown.stderr)],
      [125, true],
      unknown.stderr,
    );
    assert.equal(
      await inside(
        ['-v', `${wherry.folder}/env:/in:ro`],
        'head -n 1 /in; echo x > /in 2>/dev/null || echo refused',
      ),
      '# no\nrefused',
    );
    const bounding = async (...flags: string[]) => inside(flags, 'grep CapBnd /proc/self/status | cut -f2');
    assert.equal(await bounding('--cap-drop', 'ALL', '--cap-add', 'CHOWN'), '0000000000000001');
    assert.equal(await bounding('--cap-drop', 'chown'), '00000000a80425fa');
    for (const flags of [
      ['-v', 'x'],
      ['-v', '/no/such:/x'],
      ['--cap-add', 'CAP_NONE'],
      ['--env-file', '/no/such'],
    ]) {
      const bad = await wherry.run(['launch', ...flags, '--', 'true']);
      assert.deepEqual(
        [bad.code, bad.stderr.includes(flags[0] === '-v' ? '--volume' : flags[0]!)],
        [125, true],
        bad.stderr,
      );
    }
    await noFolder();
  });

  test('a session in a terminal: shell, size, Ctrl-C, going away and coming back', async () => {
    const id = uniqueId('session');
    await wherry.must(['launch', '-dt', '--name', id, '--', 'sh']);
    await using terminal = await Tmux.start(`${wherryBinary} attach ${id}`, wherry.env);
    await terminal.type('echo a$((20+3))b', 'Enter');
    await terminal.shows(/^a23b$/m);
    await terminal.type('stty size', 'Enter');
    await terminal.shows(/^24 80$/m);
    await terminal.resize(100, 30);
    await eventually('the new size', async () => {
      await terminal.type('clear; stty size', 'Enter');
      return /^30 100$/m.test(await terminal.screen()) ? true : undefined;
    });
    await terminal.type('sleep 1000', 'Enter');
    // While the shell still edits its line, Ctrl-C is a key of it and no signal to what comes.
    await eventually('it sleeps', async () => {
      const pids = JSON.parse(await wherry.must(['ps', '--format', 'json', id])) as number[];
      return pids.some((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n') || undefined;
    });
    await terminal.type('C-c');
    await terminal.type('echo after=$?', 'Enter');
    // What is typed may come before the shell's prompt, which then stands before the answer.
    await terminal.shows(/^(# )*after=130$/m);
    await terminal.type('KEPT=here', 'Enter');
    await terminal.type('C-p', 'C-q');
    assert.equal((await table()).find((row) => row.id === id)?.status, 'running');
    await using again = await Tmux.start(`${wherryBinary} attach ${id}`, wherry.env);
    await again.type('echo still $KEPT', 'Enter');
    await again.shows(/^still here$/m);
    await again.type('exit 9', 'Enter');
    assert.equal(await wherry.must(['wait', id]), '9\n');
    assert.match(await wherry.must(['logs', id]), /still here/);
    await wherry.must(['rm', id]);
  });
});
