/** Behaviours 42, 58 and 60: containerd goes and comes again; the shim dies. Last, because who listens to events loses its containerd. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { allCgroups, mounts } from '../../support/cgroups.ts';
import { imageName } from '../../support/image.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import type { World } from './world.ts';

const RUNTIME = 'io.containerd.wherry.v1';

export function restartBehaviours(world: World): void {
  const taskOf = async (id: string) => (await world.containerd.tasks()).get(id);
  const runDetached = async (id: string, script: string): Promise<number> => {
    const command = ['run', '-d', '--runtime', RUNTIME, imageName, id, '/bin/sh', '-c', script];
    await world.containerd.mustCtr(command);
    return (await taskOf(id))?.pid ?? 0;
  };
  const removed = async (id: string) => {
    const { stderr } = await world.containerd.ctr(['task', 'rm', id]);
    await world.containerd.mustCtr(['container', 'rm', id]);
    return stderr;
  };
  /** Topics of the events that containerd says it was given since that place in its log. */
  const forwarded = (since: number): string[] =>
    world.containerd
      .log()
      .slice(since)
      .split('\n')
      .filter((line) => line.includes('event forwarded') && line.includes(`ns=${world.containerd.namespace}`))
      .map((line) => /topic=(\S+)/.exec(line)?.[1] ?? '');

  test('60. the death of the shim: containerd tells of exit 137, and no process, cgroup, mount or socket is left', async () => {
    const id = uniqueId('sunk');
    const pid = await runDetached(id, 'sleep 1000');
    const keel = await world.keelPid();
    process.kill(keel, 'SIGKILL');
    await eventually('the task goes', async () => (await taskOf(id)) === undefined || undefined);
    await eventually('its process goes', () => !existsSync(`/proc/${pid}`) || undefined);
    const exit = await eventually('its exit is told', () =>
      world.caller.events(id).find(({ topic }) => topic === '/tasks/exit'),
    );
    assert.deepEqual([exit.fields['pid'], exit.fields['exit_status']], [pid, 137]);
    await eventually('nothing is left', () => {
      const left = [...mounts(), ...allCgroups()].filter((path) => path.includes(id));
      const bundles = join(
        world.containerd.folder,
        'state/io.containerd.runtime.v2.task',
        world.containerd.namespace,
      );
      return (left.length === 0 && !readdirSync(bundles).includes(id)) || undefined;
    });
    await world.containerd.mustCtr(['container', 'rm', id]);
  });

  test('58. a container that ends while containerd is down: the right exit code after its restart', async (t) => {
    if (world.grpc) return t.skip('a lost gRPC connection costs the container its shim');
    const id = uniqueId('ended');
    const pid = await runDetached(id, 'trap "exit 7" TERM; while :; do sleep 0.05; done');
    const living = uniqueId('lives');
    const other = await runDetached(living, 'sleep 1000');
    await world.containerd.end('SIGKILL');
    await eventually('it ends', () => {
      if (!existsSync(`/proc/${pid}`)) return true;
      process.kill(pid, 'SIGTERM');
      return undefined;
    });
    await world.containerd.again();
    assert.deepEqual(await taskOf(id), { pid, status: 'STOPPED' });
    assert.deepEqual(await taskOf(living), { pid: other, status: 'RUNNING' });
    assert.match(await removed(id), /exit code 7/);
    const command = ['task', 'exec', '--exec-id', 'e', living, '/bin/echo', 'well'];
    assert.equal(await world.containerd.mustCtr(command), 'well\n');
    await world.containerd.mustCtr(['task', 'kill', '-s', 'SIGKILL', living]);
    await eventually('it stops', async () => (await taskOf(living))?.status === 'STOPPED' || undefined);
    assert.match(await removed(living), /exit code 137/);
  });

  test('42. containerd is down for a while: the events arrive afterwards, in order, once', async () => {
    const begun = world.containerd.log().length;
    const before = await world.caller.make('before', ['/bin/sleep', '1000']);
    await eventually('it was told', () => forwarded(begun).includes('/tasks/start') || undefined);
    await world.containerd.end('SIGTERM');
    await before.client.call('Kill', { id: before.id, signal: 9 });
    await before.client.call('Wait', { id: before.id });
    await before.client.call('Delete', { id: before.id });
    const during = await world.caller.make('during', ['/bin/true']);
    await during.client.call('Wait', { id: during.id });
    await during.client.call('Delete', { id: during.id });
    const since = world.containerd.log().length;
    await world.containerd.again();
    const after = await world.caller.make('after', ['/bin/true']);
    await after.client.call('Wait', { id: after.id });
    await after.client.call('Delete', { id: after.id });
    const life = ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete'];
    const wanted = ['/tasks/exit', '/tasks/delete', ...life, ...life];
    await eventually('all events', () => forwarded(since).length >= wanted.length || undefined);
    // Killed between taking it and saying so, containerd gets the start a second time.
    const told = forwarded(since);
    assert.deepEqual(told[0] === '/tasks/start' ? told.slice(1) : told, wanted);
    for (const made of [before, during, after]) await world.caller.remove(made);
  });

  test('42. a containerd that hangs for longer than a call may take gets no event twice', async () => {
    const made = await world.caller.make('hung', ['/bin/sleep', '1000']);
    await eventually('it was told', () => forwarded(0).at(-1) === '/tasks/start' || undefined);
    const since = world.containerd.log().length;
    const { pid } = world.containerd;
    process.kill(pid, 'SIGSTOP');
    try {
      await made.client.call('Kill', { id: made.id, signal: 9 });
      await made.client.call('Wait', { id: made.id });
      // Longer than the 5 s after which containerd's own shim would send it again.
      await new Promise((wake) => setTimeout(wake, 5500));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await made.client.call('Delete', { id: made.id });
    await eventually('all events', () => forwarded(since).includes('/tasks/delete') || undefined);
    assert.deepEqual(forwarded(since), ['/tasks/exit', '/tasks/delete']);
    await world.caller.remove(made);
  });
}
