/** checkpoint and restore with the real criu: a process goes on where it was. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { criuProgram, linkedNumber } from '../support/criu.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, run } from '../support/run.ts';
import { notifyProgram, ServiceManager } from '../support/service-manager.ts';
import { Wherry } from '../support/wherry.ts';

/**
 * The number is in memory only, so a process that was started anew would begin at 1. It is told as a link's target: a file that is open
 * at the checkpoint must be there at the restore, as it was.
 */
const COUNT = 'i=0; while :; do i=$((i+1)); ln -sfn $i /data/new; mv /data/new /data/count; sleep 0.05; done';

for (const mode of ['wherryd', 'alone'] as const) {
  describe(`checkpoint and restore (${mode})`, () => {
    let wherry: Wherry;
    before(async () => {
      const env = { WHERRY_CRIU: await criuProgram(), ...(mode === 'alone' && { WHERRY_DAEMON: '0' }) };
      wherry = new Wherry(env);
    });
    after(async () => wherry?.[Symbol.asyncDispose]());

    const bundleOf = (id: string, script: string, edit: (config: SpecConfig) => void = () => {}) =>
      makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
        const data = join(wherry.folder, id, 'data');
        mkdirSync(data);
        config.root.readonly = false;
        config.linux['cgroupsPath'] = `/${id}`;
        config.mounts.push({ destination: '/data', type: 'bind', source: data, options: ['rbind', 'rw'] });
        edit(config);
      });
    const countOf = (bundle: string): number => linkedNumber(join(bundle, 'data', 'count'));
    const beyond = (bundle: string, count: number) =>
      eventually(`a count beyond ${count}`, () => countOf(bundle) > count || undefined);
    const start = async (bundle: string, id: string) => {
      const result = await wherry.run(['run', '-d', '-b', bundle, id], { outputFile: join(bundle, 'out') });
      assert.equal(result.code, 0, readFileSync(join(bundle, 'out'), 'utf8'));
    };
    const restore = async (bundle: string, id: string, ...flags: string[]) => {
      const out = join(bundle, `out-${id}`);
      const result = await wherry.run(['restore', '-d', '-b', bundle, ...flags, id], { outputFile: out });
      assert.equal(result.code, 0, readFileSync(out, 'utf8'));
    };
    const stateOf = async (id: string) =>
      JSON.parse(await wherry.must(['state', id])) as { pid: number; status: string };

    test('a program that speaks to a service manager does so after the restore', async () => {
      const id = uniqueId('notify');
      await using manager = await ServiceManager.listen(join(wherry.folder, `${id}.s`));
      const talk = 'while :; do /notify send READY=1; sleep 0.05; done';
      const bundle = await bundleOf(id, talk);
      copyFileSync(await notifyProgram(), join(bundle, 'rootfs/notify'));
      const env = { ...wherry.env, NOTIFY_SOCKET: manager.address };
      const call = async (...words: string[]) => {
        const outputFile = join(bundle, 'out');
        const result = await run(wherry.command, [...words, '-d', '-b', bundle, id], { env, outputFile });
        assert.equal(result.code, 0, readFileSync(outputFile, 'utf8'));
        const told = await eventually('READY', () => manager.messages.length === 3 || undefined);
        const { pid } = await stateOf(id);
        assert.equal(told && manager.take()[1]?.text, `MAINPID=${pid}\\n`);
      };
      await call('run');
      const image = join(bundle, 'image');
      await wherry.must(['checkpoint', '--image-path', image, id]);
      await call('restore', '--image-path', image);
      await wherry.must(['delete', '--force', id]);
    });

    test('a counting process goes on counting, under another name', async () => {
      const id = uniqueId('count');
      const bundle = await bundleOf(id, COUNT);
      await start(bundle, id);
      await beyond(bundle, 5);
      const image = join(bundle, 'image');
      await wherry.must(['checkpoint', '--image-path', image, id]);
      const stopped = countOf(bundle);
      assert.ok(stopped > 5);
      assert.match((await wherry.run(['state', id])).stderr, /container does not exist/);

      const again = uniqueId('again');
      const pidFile = join(bundle, 'pid');
      await restore(bundle, again, '--image-path', image, '--pid-file', pidFile);
      await beyond(bundle, stopped + 3);
      const { pid, status } = await stateOf(again);
      assert.equal(status, 'running');
      assert.equal(readFileSync(pidFile, 'utf8'), String(pid));
      assert.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), new RegExp(`/${id}$`, 'm'));
      assert.match(await wherry.must(['exec', again, 'cat', '/proc/1/cmdline']), /data\/new/);
      assert.deepEqual(JSON.parse(await wherry.must(['ps', '-f', 'json', again])).includes(pid), true);
      await wherry.must(['pause', again]);
      await wherry.must(['resume', again]);
      // The second image of the same process.
      const second = join(bundle, 'second');
      await wherry.must(['checkpoint', '--image-path', second, '--work-path', join(bundle, 'work'), again]);
      assert.ok(existsSync(join(bundle, 'work', 'dump.log')));
      const here = countOf(bundle);
      await restore(bundle, id, '--image-path', second);
      await beyond(bundle, here + 1);
      await wherry.must(['kill', id, 'KILL']);
      await eventually('the end', async () => (await stateOf(id)).status === 'stopped' || undefined);
      await wherry.must(['delete', id]);
      assert.equal(existsSync(join(wherry.runDir, 'containers/local/default', id)), false);
    });

    // The rest is the same conversation.
    if (mode === 'alone') return;

    test('--leave-running lets it run, and the image is as good', async () => {
      const id = uniqueId('leave');
      const bundle = await bundleOf(id, COUNT);
      await start(bundle, id);
      await beyond(bundle, 3);
      await wherry.must(['checkpoint', '--leave-running', '--image-path', join(bundle, 'image'), id]);
      const then = countOf(bundle);
      await beyond(bundle, then + 3);
      assert.equal((await stateOf(id)).status, 'running');
      await wherry.must(['delete', '-f', id]);
      await restore(bundle, id, '--image-path', join(bundle, 'image'));
      await beyond(bundle, 3);
      await wherry.must(['delete', '-f', id]);
    });

    test('standard streams are those of the restore; its status is that of the program', async () => {
      const id = uniqueId('streams');
      const bundle = await bundleOf(
        id,
        'i=0; while [ ! -e /data/stop ]; do i=$((i+1)); echo n $i; echo e $i >&2; sleep 0.05; done; exit 7',
      );
      // Through cat: what Node calls a pipe is a socket.
      const piped = (line: string): [string, string[]] => [
        '/bin/sh',
        ['-c', `{ ${wherry.command} ${line}; echo "status $?"; } 2>&1 | cat`],
      ];
      const first = spawn(...piped(`run -b ${bundle} ${id}`), {
        env: wherry.env,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let seen = '';
      first.stdout.on('data', (chunk) => {
        seen += chunk;
      });
      await eventually('output', () => /^n 3$/m.test(seen) || undefined);
      await wherry.must(['checkpoint', '--image-path', join(bundle, 'image'), id]);
      await eventually('its end', () => /^status 137$/m.test(seen) || undefined);
      const last = Number([...seen.matchAll(/^n (\d+)$/gm)].at(-1)?.[1]);
      const second = spawn(...piped(`restore -b ${bundle} --image-path ${join(bundle, 'image')} ${id}`), {
        env: wherry.env,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let again = '';
      second.stdout.on('data', (chunk) => {
        again += chunk;
      });
      await eventually('output', () => new RegExp(`^n ${last + 3}$`, 'm').test(again) || undefined);
      writeFileSync(join(bundle, 'data', 'stop'), '');
      await eventually('its end', () => /^status 7$/m.test(again) || undefined);
      const [next] = [...again.matchAll(/^n (\d+)$/gm)].map((match) => Number(match[1]));
      assert.ok(next === last || next === last + 1, `${next} after ${last}`);
      assert.match(again, /^e \d+$/m);
      assert.match((await wherry.run(['state', id])).stderr, /does not exist/);
    });

    test('a terminal is made anew, and is that of the caller', async () => {
      const id = uniqueId('terminal');
      const script =
        'i=0; while [ ! -e /data/stop ]; do i=$((i+1)); echo n $i; sleep 0.05; done; tty; echo back; exit 5';
      const bundle = await bundleOf(id, script, (config) => {
        config.process.terminal = true;
      });
      /** script(1) gives a command a terminal, and copies what it shows. */
      const inTerminal = (line: string) => {
        const child = spawn('script', ['-qefc', line, '/dev/null'], {
          env: wherry.env,
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        const shown = {
          text: '',
          ended: new Promise<number | null>((resolve) => child.on('close', resolve)),
        };
        child.stdout.on('data', (chunk) => {
          shown.text += chunk;
        });
        return shown;
      };
      const first = inTerminal(`${wherry.command} run -b ${bundle} ${id}`);
      await eventually('output', () => /^n 3\r?$/m.test(first.text) || undefined);
      const image = join(bundle, 'image');
      await wherry.must(['checkpoint', '--image-path', image, id]);
      await first.ended;
      const last = Number(/n (\d+)\s*$/.exec(first.text)?.[1]);
      const second = inTerminal(`${wherry.command} restore -b ${bundle} --image-path ${image} ${id}`);
      await eventually('output', () => new RegExp(`^n ${last + 3}\\r?$`, 'm').test(second.text) || undefined);
      writeFileSync(join(bundle, 'data', 'stop'), '');
      assert.equal(await second.ended, 5, second.text);
      assert.match(second.text, /\/dev\/pts\/0\r\nback\r\n$/);
    });

    test('hooks that run before the start run again, with the pid', async () => {
      const id = uniqueId('hooks');
      const bundle = await bundleOf(id, COUNT, (config) => {
        const hook = (name: string) => [
          { path: '/bin/sh', args: ['sh', '-c', `cat >> ${join(wherry.folder, id, name)}`] },
        ];
        config['hooks'] = { createRuntime: hook('created'), poststop: hook('stopped') };
      });
      await start(bundle, id);
      await beyond(bundle, 2);
      await wherry.must(['checkpoint', '--image-path', join(bundle, 'image'), id]);
      await restore(bundle, id, '--image-path', join(bundle, 'image'));
      const { pid } = await stateOf(id);
      const states = readFileSync(join(bundle, 'created'), 'utf8')
        .split(/(?<=\})(?=\{)/)
        .map((text) => JSON.parse(text));
      assert.equal(states.length, 2);
      assert.equal(states[1].pid, pid);
      await wherry.must(['delete', '-f', id]);
      assert.match(readFileSync(join(bundle, 'stopped'), 'utf8'), /"status":"stopped"/);
    });

    test('what is wrong is told by its name, and nothing is left', async () => {
      const id = uniqueId('wrong');
      const bundle = await bundleOf(id, COUNT);
      const fails = async (text: RegExp, ...args: string[]) => {
        const { code, stderr } = await wherry.run(args);
        assert.equal(code, 1, `${args.join(' ')}\n${stderr}`);
        assert.match(stderr, text);
      };
      await fails(/container does not exist/, 'checkpoint', 'nobody');
      assert.equal(
        (await wherry.run(['create', '-b', bundle, id], { outputFile: join(bundle, 'out') })).code,
        0,
      );
      await fails(/cannot be checkpointed in created state/, 'checkpoint', id);
      await wherry.must(['start', id]);
      await beyond(bundle, 1);
      const image = join(bundle, 'image');
      await fails(/--criu|no program/, '--criu', '/nowhere/criu', 'checkpoint', '--image-path', image, id);
      await fails(
        /--parent-path: .* must be relative/,
        'checkpoint',
        '--parent-path',
        '/x',
        '--image-path',
        image,
        id,
      );
      await fails(
        /no folder.*--image-path/,
        'checkpoint',
        '--parent-path',
        '../x',
        '--image-path',
        image,
        id,
      );
      await fails(/--page-server: expected ADDRESS:PORT/, 'checkpoint', '--page-server', 'here', id);
      await fails(/"pid" is not supported by --empty-ns/, 'checkpoint', '--empty-ns', 'pid', id);
      await fails(/--manage-cgroups-mode/, 'checkpoint', '--manage-cgroups-mode', 'some', id);
      await fails(/--lazy-pages/, 'checkpoint', '--status-fd', '3', id);
      await fails(/open the folder .*: no such file/i, 'checkpoint', '--image-path', '/nowhere/at/all', id);
      assert.equal((await stateOf(id)).status, 'running');
      await fails(/already exists/, 'restore', '-d', '-b', bundle, '--image-path', image, id);
      await wherry.must(['delete', '-f', id]);
      const other = uniqueId('other');
      await fails(/no folder/, 'restore', '-d', '-b', bundle, '--image-path', '/nowhere', other);
      mkdirSync(join(bundle, 'empty'));
      await fails(
        /descriptors\.json/,
        'restore',
        '-d',
        '-b',
        bundle,
        '--image-path',
        join(bundle, 'empty'),
        other,
      );
      writeFileSync(join(bundle, 'empty/descriptors.json'), '[]');
      await fails(
        /criu failed: type RESTORE errno \d+: .+; log file: .*restore\.log/,
        ...['restore', '-d', '-b', bundle, '--image-path', join(bundle, 'empty'), other],
      );
      await fails(/does not exist/, 'state', other);
      assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(wherry.folder), false);
    });
  });
}
