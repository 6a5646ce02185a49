/** The run folder is full: what needs room fails with a clear error and leaves nothing, what runs goes on, and room is all it takes. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, must } from '../support/run.ts';

const runtime = 'io.containerd.wherry.v1';
const timeout = 60_000;
/** Ends with 7 on SIGTERM. */
const program = ['/bin/sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.02; done'];

describe('a full run folder, containerd 2.1', { timeout: 300_000 }, () => {
  let containerd: Containerd;
  before(async () => {
    containerd = await Containerd.start('2.1');
    await must('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'wherry-test', containerd.runDir]);
  });
  after(async () => {
    if (containerd === undefined) return;
    release();
    const { runDir } = containerd;
    try {
      await must(wherry, ['daemon', 'stop', '--force'], { env: env(), timeout });
    } finally {
      await must('umount', ['-l', runDir]);
      await containerd[Symbol.asyncDispose]();
    }
  });

  const wherry = join(dist, 'bin/wherry');
  const env = () => ({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: containerd.runDir });
  const filler = () => join(containerd.runDir, 'filler');
  const release = (): void => rmSync(filler(), { force: true });
  /** To the last page. */
  function fill(): void {
    writeFileSync(filler(), '');
    for (const size of [65_536, 4096])
      try {
        for (;;) appendFileSync(filler(), Buffer.alloc(size));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      }
    assert.equal(statfsSync(containerd.runDir).bfree, 0);
  }
  const wherryd = async (): Promise<number> => {
    const { stdout } = await must(wherry, ['daemon', 'status', '-f', 'json'], { env: env(), timeout });
    return (JSON.parse(stdout) as { wherryd: { pid: number } }).wherryd.pid;
  };
  const start = async (): Promise<string> => {
    const id = uniqueId('full');
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
  async function end(id: string): Promise<void> {
    await containerd.mustCtr(['task', 'kill', '-s', 'SIGTERM', id]);
    await eventually('it is stopped', async () => (await status(id)) === 'STOPPED' || undefined);
    const removed = await containerd.ctr(['task', 'rm', id]);
    assert.match(removed.stderr, /exit code 7/);
    await containerd.mustCtr(['container', 'rm', id]);
    assert.deepEqual(left(id), []);
  }

  test('new things are refused, what runs goes on, and works again when there is room', async () => {
    const [a, b, c] = [await start(), await start(), await start()];
    const pid = await wherryd();
    fill();
    const refused = uniqueId('refused');
    const run = await containerd.ctr(['run', '-d', '--runtime', runtime, imageName, refused, ...program], {
      timeout,
    });
    assert.notEqual(run.code, 0);
    assert.match(run.stderr, /no space left/i);
    assert.match(run.stderr, /make room in the run folder/);
    await containerd.ctr(['container', 'rm', refused]);
    await eventually('nothing of it is left', () => left(refused).length === 0 || undefined);
    const exec = await containerd.ctr(['task', 'exec', '--exec-id', 'e1', a, '/bin/true'], { timeout });
    assert.notEqual(exec.code, 0);
    assert.match(exec.stderr, /no space left/i);
    assert.match(exec.stderr, /make room in the run folder/);
    await containerd.mustCtr(['task', 'pause', a]);
    assert.equal(await status(a), 'PAUSED');
    await containerd.mustCtr(['task', 'resume', a]);
    assert.equal(await status(a), 'RUNNING');
    await end(b);
    // The next wherryd finds them all, without room for anything.
    process.kill(await wherryd(), 'SIGKILL');
    assert.equal(await status(a), 'RUNNING');
    await end(c);
    assert.notEqual(await wherryd(), pid);
    const now = await wherryd();
    release();
    const exec2 = await containerd.ctr(['task', 'exec', '--exec-id', 'e1', a, '/bin/sh', '-c', 'exit 3'], {
      timeout,
    });
    assert.equal(exec2.code, 3, exec2.stderr);
    await end(await start());
    await end(a);
    assert.equal(await wherryd(), now, 'without a restart');
    assert.doesNotMatch(readFileSync(join(containerd.runDir, 'wherryd.log'), 'utf8'), /uncaught|unhandled/);
    assert.equal(existsSync(join(containerd.runDir, 'damaged')), false);
  });
});
