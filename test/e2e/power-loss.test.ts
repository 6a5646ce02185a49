/** What a power loss leaves in a run folder that outlives it: sockets of nobody, pids that are others' now, states cut off or empty. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { allCgroups } from '../support/cgroups.ts';
import { dist, temporaryFolder, uniqueId } from '../support/paths.ts';
import { eventually, must, type RunResult, run } from '../support/run.ts';
import { daemonPids } from '../support/wherry.ts';

const timeout = 60_000;
/** A zombie is dead: its new parent has yet to reap it. */
const alive = (pid: number): boolean => {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
};
/** wherryd ends by itself when keel has gone. */
const kill = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH');
  }
};

describe('a run folder from before a power loss', { timeout: 120_000 }, () => {
  let folder: string;
  let runDir: string;
  before(() => {
    folder = temporaryFolder();
    runDir = join(folder, 'run');
    mkdirSync(runDir, { mode: 0o700 });
  });
  after(async () => {
    await wherry('daemon', 'stop', '--force');
    rmSync(folder, { recursive: true, force: true });
  });

  const env = () => ({ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', WHERRY_RUN_DIR: runDir });
  const program = join(dist, 'bin/wherry');
  const wherry = (...args: string[]): Promise<RunResult> => run(program, args, { env: env(), timeout });
  const ok = async (...args: string[]): Promise<string> =>
    (await must(program, args, { env: env(), timeout })).stdout;
  /** Its output is nobody's: the container would hold ours. */
  const detached = async (bundle: string, id: string): Promise<void> => {
    const line = `exec ${program} run --detach -b ${bundle} ${id} </dev/null >/dev/null 2>${folder}/errors`;
    const { code } = await run('/bin/sh', ['-c', line], { env: env(), timeout });
    assert.equal(code, 0, readFileSync(join(folder, 'errors'), 'utf8'));
  };
  const start = async (): Promise<{ id: string; bundle: string; pid: number }> => {
    const id = uniqueId('loss');
    const bundle = await makeBundle(folder, id, ['/bin/sh', '-c', 'sleep 1000']);
    await detached(bundle, id);
    return { id, bundle, pid: (JSON.parse(await ok('state', id)) as { pid: number }).pid };
  };
  const stateFile = (id: string): string => {
    const found = (readdirSync(runDir, { recursive: true }) as string[]).find((path) =>
      path.endsWith(`${id}/state.json`),
    );
    assert.ok(found !== undefined);
    return join(runDir, found);
  };

  test('no stranger is adopted or signalled, no name is blocked, nothing is left', async () => {
    const [foreign, dead, torn, empty] = [await start(), await start(), await start(), await start()];
    const { keel, wherryd } = daemonPids(await ok('daemon', 'status', '-f', 'json'));
    // All at once, and keel first: nobody writes anything down.
    for (const pid of [keel, wherryd]) kill(pid);
    for (const { pid } of [foreign, dead, torn, empty]) {
      process.kill(pid, 'SIGKILL');
      await eventually('it is gone', () => !alive(pid) || undefined);
    }
    assert.ok(existsSync(join(runDir, 'keel.sock')) && existsSync(join(runDir, 'keel.lock')));
    const stranger = spawn('/bin/sleep', ['1000'], { stdio: 'ignore' });
    try {
      const text = readFileSync(stateFile(foreign.id), 'utf8');
      writeFileSync(stateFile(foreign.id), text.replaceAll(`"pid":${foreign.pid}`, `"pid":${stranger.pid}`));
      truncateSync(stateFile(torn.id), 100);
      truncateSync(stateFile(empty.id), 0);

      const wanted = [foreign, dead].map(({ id }) => `${id} stopped`).sort();
      await eventually('those that can be read are known as ended', async () => {
        const listed = JSON.parse(await ok('list', '-f', 'json')) as { id: string; status: string }[];
        const found = listed.map(({ id, status: now }) => `${id} ${now}`).sort();
        return found.join() === wanted.join() || undefined;
      });
      const killed = await wherry('kill', foreign.id, 'KILL');
      assert.equal(killed.code, 1);
      assert.match(killed.stderr, /container not running/);
      await ok('delete', '--force', foreign.id);
      assert.equal(stranger.exitCode ?? stranger.signalCode, null, 'the stranger lives');
      await ok('delete', dead.id);
      assert.equal(readdirSync(join(runDir, 'damaged')).length, 1, 'the torn one is kept for a person');
      for (const { id, bundle } of [torn, empty]) {
        await detached(bundle, id);
        await ok('delete', '--force', id);
      }
      const ids = [foreign, dead, torn, empty].map(({ id }) => id);
      assert.deepEqual(
        allCgroups().filter((path) => ids.some((id) => path.includes(id))),
        [],
      );
    } finally {
      stranger.kill('SIGKILL');
    }
  });
});
