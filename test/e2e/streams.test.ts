/** Terminals, files and loggers under containerd, asked through ctr; and that nothing of them stays. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeBundle } from '../support/bundle.ts';
import { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { uniqueId, wherryBinary } from '../support/paths.ts';
import { eventually, run, stop } from '../support/run.ts';
import { runtime } from './containerd-suite.ts';

/** Says that it is ready, copies its two inputs to files, ends with them; notes SIGTERM. */
const logger = `#!/bin/sh
folder=$2
env | grep CONTAINER | sort > $folder/env
env | wc -l > $folder/envs
ls /proc/self/fd > $folder/fds
echo "$@" > $folder/args
trap 'echo TERM > $folder/signal' TERM
cat <&3 > $folder/out &
cat <&4 > $folder/err &
exec 3<&- 4<&-
printf r >&5
exec 5>&-
wait; wait
echo ended > $folder/end
`;

for (const version of ['1.6', '1.7', '2.1'] as const)
  describe(`streams under containerd ${version}`, () => {
    let containerd: Containerd;
    before(async () => {
      containerd = await Containerd.start(version);
    });
    after(async () => {
      await containerd?.stop();
    });

    const ctrLine = (args: readonly string[]) =>
      [containerd.ctrPath, ...containerd.globalFlags, ...args].map((word) => `'${word}'`).join(' ');
    /** ctr with a terminal of 33 rows and 77 columns; what it shows, without carriage returns. */
    const onTerminal = async (id: string, flags: readonly string[], script: string) => {
      const line = ctrLine([
        'run',
        '--rm',
        '-t',
        ...flags,
        '--runtime',
        runtime,
        imageName,
        id,
        '/bin/sh',
        '-c',
        script,
      ]);
      const args = ['-qec', `stty rows 33 cols 77; ${line}`, '/dev/null'];
      const { code, stdout } = await run('script', args, { timeout: 60_000 });
      return { code, text: shown(stdout) };
    };
    const status = async (id: string) => (await containerd.tasks()).get(id)?.status;
    const stopped = (id: string) =>
      eventually(`${id} is stopped`, async () => (await status(id)) === 'STOPPED' || undefined);
    const keelPid = async () => {
      const env = { ...process.env, WHERRY_RUN_DIR: containerd.runDir };
      return Number(
        /keel:\s+pid (\d+)/.exec((await run(wherryBinary, ['daemon', 'status'], { env })).stdout)?.[1],
      );
    };
    const descriptors = (pid: number) =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
        } catch {
          return [];
        }
      });

    test('a terminal: its size, its device, its exit code', async () => {
      const { code, text } = await onTerminal(
        uniqueId('tty'),
        [],
        'tty; until test "$(stty size 2>/dev/null)" = "33 77"; do sleep 0.02; done; test -c /dev/tty && exit 5',
      );
      assert.equal(text, '/dev/pts/0\n');
      assert.equal(code, 5);
    });

    test('all that a terminal was given arrives before its end', async () => {
      const id = uniqueId('many');
      const ended = onTerminal(id, [], 'seq 1 30000; until [ -e /end ]; do sleep 0.05; done');
      // ctr drops the last of it at times, of containerd's own shim too: the program ends when all is written. That what a program that ends at
      // once has written arrives is tested with a reader of ours (shim/io.ts, 45).
      await eventually('it has written all', async () => {
        const { code, stdout } = await execIn(id, [], ['/bin/ps']);
        return (code === 0 && /sleep 0\.05/.test(stdout)) || undefined;
      });
      // The program may see the file, and its end be that of its pid namespace, before touch has ended.
      assert.ok([0, 137].includes((await execIn(id, [], ['/bin/touch', '/end'])).code));
      const { code, text } = await ended;
      assert.equal(code, 0);
      const lines = text.trimEnd().split('\n');
      assert.equal(lines.length, 30_000);
      assert.equal(lines.at(-1), '30000');
    });

    test('a terminal follows its window, takes input, and outlives the end of it', async () => {
      const id = uniqueId('window');
      const container =
        'trap "stty size" WINCH; echo ready; until read line; do :; done; echo "got $line"; while :; do sleep 0.05; done';
      const line = ctrLine([
        'run',
        '--rm',
        '-t',
        '--runtime',
        runtime,
        imageName,
        id,
        '/bin/sh',
        '-c',
        container,
      ]);
      const child = spawn('script', ['-qec', `stty rows 33 cols 77; ${line}`, '/dev/null'], {
        stdio: 'pipe',
      });
      let seen = '';
      child.stdout.on('data', (bytes: Buffer) => {
        seen += bytes.toString();
      });
      try {
        await eventually('the container is ready', () => seen.includes('ready') || undefined);
        child.stdin.write('word\n');
        await eventually('input arrives', () => seen.includes('got word') || undefined);
        const ctr = await eventually('ctr', () => descendant(child.pid ?? 0, /ctr$/));
        const terminal = ['-F', readlinkSync(`/proc/${ctr}/fd/0`), 'rows', '20', 'cols'];
        // ctr resizes once and only then listens for SIGWINCH: a change in between is lost, and only another one is told.
        await eventually('the new size', async () => {
          for (const columns of ['51', '50'])
            assert.equal((await run('stty', [...terminal, columns])).code, 0);
          await sleep(200);
          return seen.includes('20 50') || undefined;
        });
        child.stdin.end();
        assert.equal(await status(id), 'RUNNING');
        await containerd.mustCtr(['task', 'kill', '--signal', 'SIGKILL', id]);
        await eventually('script ends', () => child.exitCode ?? undefined);
        assert.equal(child.exitCode, 137);
      } finally {
        await stop(child);
      }
    });

    test('terminals leave no descriptor in keel', async () => {
      await onTerminal(uniqueId('first'), [], 'true');
      const keel = await keelPid();
      const count = await eventually('keel is at rest', () => restingCount(descriptors(keel)));
      for (let round = 0; round < 12; round++) await onTerminal(uniqueId('loop'), [], 'echo hello');
      await eventually('as many as before', () => descriptors(keel).length <= count || undefined);
      assert.deepEqual(
        descriptors(keel).filter((path) => /ptmx|pts/.test(path)),
        [],
      );
    });

    const execIn = (id: string, flags: readonly string[], command: readonly string[], input?: string) =>
      containerd.ctr(
        ['task', 'exec', '--exec-id', uniqueId('exec'), ...flags, id, ...command],
        input === undefined ? {} : { input },
      );

    // The programs stay for a moment when all is written: of an exec, too, ctr drops the last at times, whatever the shim.
    describe('execs', () => {
      const id = uniqueId('host');
      before(async () => {
        await containerd.mustCtr(['run', '-d', '--runtime', runtime, imageName, id, '/bin/sleep', '1000']);
      });
      after(async () => {
        await containerd.ctr(['task', 'rm', '--force', id]);
        await containerd.ctr(['container', 'rm', id]);
      });

      test('output, error output, input and exit code', async () => {
        const script = ['/bin/sh', '-c', 'echo out; echo err >&2; sleep 0.5; exit 6'];
        assert.deepEqual(await execIn(id, [], script), { code: 6, stdout: 'out\n', stderr: 'err\n' });
        const lines = await execIn(id, [], ['/bin/wc', '-c'], 'x'.repeat(200_000));
        assert.deepEqual([lines.code, lines.stdout], [0, '200000\n'], lines.stderr);
        const big = await execIn(
          id,
          [],
          ['/bin/sh', '-c', 'head -c 3000000 /dev/zero | tr "\\000" y; sleep 0.5'],
        );
        assert.equal(big.stdout.length, 3_000_000);
      });

      test('a terminal', async () => {
        const line = ctrLine([
          'task',
          'exec',
          '-t',
          '--exec-id',
          uniqueId('tty'),
          id,
          '/bin/sh',
          '-c',
          'tty; seq 1 5000; sleep 0.5; exit 4',
        ]);
        const { code, stdout } = await run('script', ['-qec', line, '/dev/null']);
        const text = shown(stdout).trimEnd().split('\n');
        assert.equal(code, 4);
        assert.match(text[0] ?? '', /^\/dev\/pts\/\d$/);
        assert.deepEqual(
          text.slice(1),
          Array.from({ length: 5000 }, (_, index) => String(index + 1)),
        );
      });

      test('what an exec leaves behind does not keep its caller', async () => {
        const result = await execIn(id, [], ['/bin/sh', '-c', 'echo out; sleep 500 & exit 0']);
        assert.deepEqual([result.code, result.stdout], [0, 'out\n'], result.stderr);
        const left = (await execIn(id, [], ['/bin/ps'])).stdout;
        assert.match(left, /sleep 500/);
        const keel = descriptors(await keelPid());
        assert.deepEqual(
          keel.filter((path) => path.includes('-exec')),
          [],
        );
      });

      test('a program that is not there, then another exec', async () => {
        const missing = await execIn(id, [], ['/no/such']);
        assert.notEqual(missing.code, 0);
        assert.match(missing.stderr, /OCI runtime exec failed: .*no such file or directory/);
        assert.equal((await execIn(id, [], ['/bin/true'])).code, 0);
      });
    });

    test('file:// makes folders and takes both streams', async () => {
      const id = uniqueId('file');
      const file = join(containerd.folder, 'logs/deep/log.txt');
      const script = 'echo out; echo err >&2';
      await containerd.mustCtr([
        'run',
        '-d',
        '--log-uri',
        `file://${file}`,
        '--runtime',
        runtime,
        imageName,
        id,
        '/bin/sh',
        '-c',
        script,
      ]);
      await stopped(id);
      assert.equal(readFileSync(file, 'utf8'), 'out\nerr\n');
      await containerd.mustCtr(['task', 'rm', id]);
      await containerd.mustCtr(['container', 'rm', id]);
    });

    for (const scheme of ['binary', 'binary-v2']) {
      test(`${scheme}:// gets both streams, its arguments and nothing else`, async () => {
        const id = uniqueId(scheme);
        const folder = join(containerd.folder, id);
        mkdirSync(folder);
        const program = join(folder, 'logger');
        writeFileSync(program, logger);
        chmodSync(program, 0o755);
        const uri = `${scheme}://${program}?folder=${folder}`;
        const script = 'echo out; echo err >&2; head -c 300000 /dev/zero | tr "\\000" x';
        await containerd.mustCtr([
          'run',
          '-d',
          '--log-uri',
          uri,
          '--runtime',
          runtime,
          imageName,
          id,
          '/bin/sh',
          '-c',
          script,
        ]);
        await stopped(id);
        await containerd.mustCtr(['task', 'rm', id]);
        const read = (name: string) => readFileSync(join(folder, name), 'utf8');
        assert.equal(read('end'), 'ended\n', 'it ended by the end of its input, before the task was removed');
        assert.ok(!existsSync(join(folder, 'signal')));
        assert.equal(read('out'), `out\n${'x'.repeat(300_000)}`);
        assert.equal(read('err'), 'err\n');
        assert.equal(read('args'), `folder ${folder}\n`);
        assert.equal(read('env'), `CONTAINER_ID=${id}\nCONTAINER_NAMESPACE=${containerd.namespace}\n`);
        // 6: the folder that ls reads.
        assert.equal(read('fds'), '0\n1\n2\n3\n4\n5\n6\n');
        await containerd.mustCtr(['container', 'rm', id]);
      });
    }

    test('a logger that stays gets SIGTERM at the delete', async () => {
      const id = uniqueId('stays');
      const folder = join(containerd.folder, id);
      mkdirSync(folder);
      const program = join(folder, 'logger');
      const stays = `trap "echo TERM > ${folder}/signal; exit" TERM\nexec 5>&-\nwhile :; do sleep 0.05; done\n`;
      writeFileSync(program, `#!/bin/sh\n${stays}`);
      chmodSync(program, 0o755);
      await containerd.mustCtr([
        'run',
        '-d',
        '--log-uri',
        `binary://${program}`,
        '--runtime',
        runtime,
        imageName,
        id,
        '/bin/true',
      ]);
      await stopped(id);
      assert.ok(!existsSync(join(folder, 'signal')), 'the exit of the container leaves it alone');
      await containerd.mustCtr(['task', 'rm', id]);
      assert.equal(readFileSync(join(folder, 'signal'), 'utf8'), 'TERM\n');
      await containerd.mustCtr(['container', 'rm', id]);
    });

    for (const [what, uri, message] of [
      ['that is not there', 'binary:///no/such/logger', /start the logger \/no\/such\/logger: no such file/],
      [
        'that never says that it is ready',
        'binary-v2:///bin/true',
        /logger \/bin\/true to say that it is ready/,
      ],
      ['of an unknown scheme', 'ftp:///log', /unknown STDIO scheme ftp/],
    ] as const) {
      test(`a logger ${what} is a failed create that leaves nothing`, async () => {
        const id = uniqueId('none');
        const result = await containerd.ctr([
          'run',
          '-d',
          '--log-uri',
          uri,
          '--runtime',
          runtime,
          imageName,
          id,
          '/bin/true',
        ]);
        assert.notEqual(result.code, 0);
        assert.match(result.stderr, message);
        assert.equal(await status(id), undefined);
        await containerd.ctr(['container', 'rm', id]);
      });
    }

    test('an init without a pid namespace of its own: what it leaves ends with it, and so does the output', async () => {
      const id = uniqueId('hostpid');
      const bundle = await makeBundle(
        containerd.folder,
        id,
        ['/bin/sh', '-c', 'echo out; sleep 1000 & exit 3'],
        (config) => {
          config.root.path = join(containerd.folder, id, 'rootfs');
          config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'pid');
        },
      );
      const result = await containerd.ctr([
        'run',
        '--rm',
        '--runtime',
        runtime,
        '--config',
        join(bundle, 'config.json'),
        id,
      ]);
      assert.deepEqual([result.code, result.stdout], [3, 'out\n'], result.stderr);
    });
  });

/** Of a process tree, the first whose executable matches. */
function descendant(pid: number, executable: RegExp): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);
  for (const child of children) {
    if (executable.test(readlinkSync(`/proc/${child}/exe`))) return child;
    const found = descendant(child, executable);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Once no FIFO or terminal of a container is open any more. */
function restingCount(open: readonly string[]): number | undefined {
  return open.some((path) => /fifo|ptmx/.test(path)) ? undefined : open.length;
}

/** What script(1) recorded, without the echo of its own input and without ctr's complaint that the process was gone before its first resize. */
function shown(recorded: string): string {
  return recorded
    .replaceAll('\r', '')
    .replaceAll('^@', '')
    .replace(/^.*resize pty.*\n/gm, '');
}
