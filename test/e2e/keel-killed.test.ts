/** keel is killed under running containers: containerd learns of each, and nothing of them is left. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { below } from '../support/below.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { Containerd } from '../support/containerd.ts';
import { TaskEvents } from '../support/cri/events.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';

const CONTAINERS = 50;
const PARALLEL = 4;
const runtime = 'io.containerd.wherry.v1';

describe(`keel is killed with ${CONTAINERS} running containers`, () => {
  for (const version of ['1.6', '2.1'] as const) {
    test(`containerd ${version}: each is dead and reported with 137; mounts, cgroups, sockets, files are gone`, async () => {
      await using containerd = await Containerd.start(version);
      const { folder, runDir } = containerd;
      const ids = Array.from({ length: CONTAINERS }, () => uniqueId('k'));
      await inParallel(ids, async (id) => {
        const { code, stderr } = await containerd.runContainer(runtime, ['-d'], id, ['/bin/sleep', '1000']);
        assert.equal(code, 0, stderr);
      });
      const tasks = await containerd.tasks();
      const pids = ids.flatMap((id) => tasks.get(id)?.pid ?? []);
      assert.equal(pids.length, CONTAINERS);
      const events = await TaskEvents.start(containerd);

      const parent = /\) \S (\d+)/.exec(readFileSync(`/proc/${pids[0]}/stat`, 'utf8'))?.[1];
      assert.match(readFileSync(`/proc/${parent}/cmdline`, 'utf8'), new RegExp(`^keel.*${runDir}`));
      process.kill(Number(parent), 'SIGKILL');

      const reported = (id: string): string[] =>
        events.of(id).filter((event) => event.startsWith('/tasks/exit '));
      await eventually(
        'each exit is told',
        () => ids.every((id) => reported(id).length > 0) || undefined,
        60_000,
      );
      for (const id of ids) assert.match(reported(id)[0] ?? '', /"exit_status":137\b/);
      await eventually(
        'nothing is left',
        async () => {
          const tasks = (await containerd.mustCtr(['task', 'ls', '-q'])).split('\n');
          const names = [
            ...tasks,
            ...pids.filter(isAlive).map((pid) => `${ids[0]}: process ${pid}`),
            ...mounts(),
            ...allCgroups(),
            ...below(join(runDir, 'containers')),
            ...below(join(folder, 'state/io.containerd.runtime.v2.task')),
          ];
          const left = names.filter((name) => ids.some((id) => name.includes(id)));
          const groups = readFileSync(join(runDir, 'sockets'), 'utf8').trim();
          if (left.length > 0 || groups !== '') throw new Error([...left, groups].join('\n'));
          return true;
        },
        60_000,
      );
      await events.end();
      for (const id of ids) assert.equal(reported(id).length, 1, reported(id).join('\n'));
      // The node goes on with a new keel.
      const after = await containerd.runContainer(runtime, ['--rm'], uniqueId('after'), ['/bin/echo', 'on']);
      assert.deepEqual(after, { code: 0, stdout: 'on\n', stderr: '' });
    });
  }
});

/** A zombie is dead: its new parent has yet to reap it. */
function isAlive(pid: number): boolean {
  try {
    return /\) [^Z] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function inParallel<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
