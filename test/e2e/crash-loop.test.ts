/** wherryd does not come up: containerd's State, Kill 9 and Wait are answered all the same, and nothing is lost when it does again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { dist, temporaryFolder, uniqueId } from '../support/paths.ts';
import { eventually, follow, run } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';

const runtime = 'io.containerd.wherry.v1';
const timeout = 120_000;
/** Ends with 7 on SIGTERM. */
const program = ['/bin/sh', '-c', 'trap "exit 7" TERM; sleep 1000000 & wait'];
const reason = 'its disk is full of sand';

for (const version of ['2.1', '1.6'] as const) {
  describe(`a crash loop under containerd ${version}`, { timeout: 300_000 }, () => {
    let containerd: Containerd;
    let folder: string;
    before(async () => {
      folder = temporaryFolder();
      const libexec = join(dist, 'libexec/wherry');
      const wherryd = join(folder, 'wherryd');
      const start = `exec ${join(libexec, 'node')} --max-old-space-size=256 ${join(libexec, 'wherryd.mjs')}`;
      const script = `#!/bin/sh\n[ ! -e ${folder}/broken ] || { echo '${reason}' >&2; exit 1; }\n${start}\n`;
      writeFileSync(wherryd, script, { mode: 0o755 });
      containerd = await Containerd.start(version, { env: { WHERRY_WHERRYD: wherryd } });
    });
    after(async () => {
      if (containerd !== undefined) await mended().catch(() => {});
      await containerd?.[Symbol.asyncDispose]();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

    const env = () => ({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: containerd.runDir });
    const wherry = join(dist, 'bin/wherry');
    const mend = (): void => rmSync(join(folder, 'broken'), { force: true });
    /** Returns when calls are refused. */
    async function break_(id: string): Promise<void> {
      const { wherryd } = await containerd.daemon();
      writeFileSync(join(folder, 'broken'), '');
      process.kill(wherryd, 'SIGKILL');
      const refused = await containerd.ctr(['task', 'pause', id], { timeout });
      assert.notEqual(refused.code, 0);
      assert.match(refused.stderr, new RegExp(reason));
    }
    async function mended(): Promise<void> {
      mend();
      // Until its next start a command is refused.
      await eventually('wherryd is back', async () => {
        const { code } = await run(wherry, ['daemon', 'status'], { env: env(), timeout });
        return code === 0 || undefined;
      });
    }
    const start = async (): Promise<string> => {
      const id = uniqueId('loop');
      await containerd.mustCtr(['run', '-d', '--runtime', runtime, imageName, id, ...program]);
      return id;
    };
    const tasks = () => containerd.tasks({ timeout });
    const stopped = (id: string) =>
      eventually('it is stopped', async () => (await tasks()).get(id)?.status === 'STOPPED' || undefined);
    const ctr = (...args: string[]) => spawn(containerd.ctrPath, [...containerd.globalFlags, ...args]);

    test('State, Kill 9 and Wait are answered, exits are told when it is back', async () => {
      const events = ctr('events');
      const seen = follow(events);
      const exits = (id: string): string[] =>
        seen.text.split('\n').filter((line) => line.includes('/tasks/exit') && line.includes(id));
      const [a, b] = [await start(), await start()];
      const waiting = uniqueId('wait');
      const foreground = follow(ctr('run', '--runtime', runtime, imageName, waiting, ...program));
      await eventually(
        'it runs',
        async () => (await tasks()).get(waiting)?.status === 'RUNNING' || undefined,
      );
      for (const id of [a, waiting]) await handlesTerm(async () => (await tasks()).get(id)?.pid ?? 0);
      await containerd.mustCtr(['task', 'exec', '-d', '--exec-id', 'e1', a, '/bin/sleep', '1000']);
      const listed = await containerd.mustCtr(['task', 'ps', a]);
      const before = await tasks();

      await break_(a);
      assert.deepEqual(await tasks(), before, 'the same pids, running');
      for (const pid of (await containerd.mustCtr(['task', 'ps', a])).match(/^\d+/gm) ?? [])
        assert.match(listed, new RegExp(`^${pid}\\b`, 'm'));
      const shown = await run(wherry, ['list'], { env: env(), timeout });
      assert.deepEqual([shown.code, shown.stdout], [1, '']);
      assert.match(shown.stderr, new RegExp(`^wherry: wherryd does not come up: .*${reason}`));
      const term = await containerd.ctr(['task', 'kill', '-s', 'SIGTERM', a], { timeout });
      assert.notEqual(term.code, 0, 'only wherryd may do it');
      assert.match(term.stderr, new RegExp(reason));
      await containerd.mustCtr(['task', 'kill', '-s', 'SIGKILL', b], { timeout });
      await stopped(b);
      await containerd.mustCtr(['task', 'kill', '-s', 'SIGKILL', '--exec-id', 'e1', a], { timeout });
      process.kill(before.get(waiting)?.pid ?? 0, 'SIGTERM');
      await eventually('its caller hears', () => foreground.code !== undefined || undefined);
      assert.match(foreground.text, new RegExp(`failed to delete task: .*${reason}`), 'Wait has told it');
      assert.deepEqual((await tasks()).get(a), before.get(a));

      await mended();
      for (const [id, count] of [
        [b, 1],
        [waiting, 1],
        [a, 1],
      ] as const)
        await eventually(`the exit of ${id} is told`, () => exits(id).length >= count || undefined);
      assert.match(exits(a)[0] ?? '', /"?e1"?/);
      const removed = await containerd.ctr(['task', 'rm', b]);
      assert.match(removed.stderr, /exit code 137/);
      await containerd.mustCtr(['task', 'kill', '-s', 'SIGTERM', a]);
      await stopped(a);
      assert.match((await containerd.ctr(['task', 'rm', a])).stderr, /exit code 7/);
      for (const id of [b, waiting]) assert.equal(exits(id).length, 1, seen.text);
      for (const id of [a, b, waiting]) await containerd.ctr(['container', 'rm', id]);
      events.kill();
      assert.deepEqual([...(await tasks()).keys()], []);
    });

    test('a containerd that starts meanwhile finds its containers', async () => {
      const id = await start();
      const before = await tasks();
      await break_(id);
      await containerd.end('SIGKILL');
      await containerd.again();
      assert.deepEqual(await tasks(), before, containerd.tail());
      assert.ok(readFileSync(`/proc/${before.get(id)?.pid}/stat`, 'latin1').includes('(sh)'));
      await containerd.mustCtr(['task', 'kill', '-s', 'SIGKILL', id], { timeout });
      await stopped(id);
      await mended();
      assert.match((await containerd.ctr(['task', 'rm', id], { timeout })).stderr, /exit code 137/);
      await containerd.mustCtr(['container', 'rm', id]);
    });
  });
}
