/** keel or wherryd may open nothing more: what runs goes on and can be ended, what is new waits or is refused, and a higher limit is all it takes. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, must, run } from '../support/run.ts';

const runtime = 'io.containerd.wherry.v1';
const timeout = 60_000;
/** Ends with 7 on SIGTERM. */
const program = ['/bin/sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.02; done'];

describe('no descriptor is left, containerd 2.1', { timeout: 300_000 }, () => {
  let containerd: Containerd;
  before(async () => {
    containerd = await Containerd.start('2.1');
  });
  after(() => containerd?.[Symbol.asyncDispose]());

  const env = () => ({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: containerd.runDir });
  const wherry = join(dist, 'bin/wherry');
  const daemon = async (): Promise<{ keel: number; wherryd: number }> => {
    const { stdout } = await must(wherry, ['daemon', 'status', '-f', 'json'], { env: env(), timeout });
    const { keel, wherryd } = JSON.parse(stdout) as { keel: { pid: number }; wherryd: { pid: number } };
    return { keel: keel.pid, wherryd: wherryd.pid };
  };
  const limit = (pid: number, soft: string) => must('prlimit', ['--pid', String(pid), `--nofile=${soft}:`]);
  const log = () => readFileSync(join(containerd.runDir, 'wherryd.log'), 'utf8');
  const start = async (): Promise<string> => {
    const id = uniqueId('fd');
    await containerd.mustCtr(['run', '-d', '--runtime', runtime, imageName, id, ...program], { timeout });
    return id;
  };
  const status = async (id: string): Promise<string> => {
    const line = (await containerd.mustCtr(['task', 'ls'])).split('\n').find((one) => one.startsWith(id));
    return line?.split(/\s+/)[2] ?? 'gone';
  };
  const left = (id: string): string[] => [
    ...mounts().filter((path) => path.includes(id)),
    ...allCgroups().filter((path) => path.includes(id)),
    ...(readdirSync(containerd.runDir, { recursive: true }) as string[]).filter((path) => path.includes(id)),
  ];
  async function kill(id: string): Promise<void> {
    await containerd.mustCtr(['task', 'kill', '-s', 'SIGTERM', id]);
    await eventually('it is stopped', async () => (await status(id)) === 'STOPPED' || undefined);
  }
  async function remove(id: string): Promise<void> {
    assert.match((await containerd.ctr(['task', 'rm', id], { timeout })).stderr, /exit code 7/);
    await containerd.mustCtr(['container', 'rm', id]);
    assert.deepEqual(left(id), []);
  }

  test('in keel', async () => {
    const [a, b] = [await start(), await start()];
    const { keel, wherryd } = await daemon();
    const soft = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${keel}/limits`, 'latin1'))?.[1] ?? '';
    await limit(keel, '3');
    const listing = run(wherry, ['daemon', 'status'], { env: env(), timeout });
    await eventually('it says so', () => /cannot accept: Too many open files/.test(log()) || undefined);
    assert.equal(await status(a), 'RUNNING');
    await kill(b);
    await limit(keel, soft);
    assert.equal((await listing).code, 0, 'it waited');
    await remove(b);
    const c = await start();
    for (const id of [a, c]) {
      await kill(id);
      await remove(id);
    }
    assert.deepEqual(await daemon(), { keel, wherryd }, 'without a restart');
  });

  test('in wherryd', async () => {
    const [a, b] = [await start(), await start()];
    const { keel, wherryd } = await daemon();
    const soft = /Max open files\s+(\d+)/.exec(readFileSync(`/proc/${wherryd}/limits`, 'latin1'))?.[1] ?? '';
    await limit(wherryd, '3');
    const refused = uniqueId('refused');
    const failed = await containerd.ctr(['run', '-d', '--runtime', runtime, imageName, refused, ...program], {
      timeout,
    });
    assert.notEqual(failed.code, 0);
    assert.match(failed.stderr, /too many open files/i);
    await containerd.ctr(['container', 'rm', refused]);
    assert.equal(await status(a), 'RUNNING');
    await kill(b);
    await limit(wherryd, soft);
    await eventually('nothing of it is left', () => left(refused).length === 0 || undefined);
    await remove(b);
    const c = await start();
    for (const id of [a, c]) {
      await kill(id);
      await remove(id);
    }
    assert.deepEqual(await daemon(), { keel, wherryd }, 'without a restart');
    assert.doesNotMatch(log(), /uncaught|unhandled/);
  });
});
