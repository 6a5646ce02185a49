/** Kills for want of memory, on whichever version of cgroups this host has: the reason of the end, and the events' order. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../../support/bundle.ts';
import { Containerd } from '../../support/containerd.ts';
import { TaskEvents } from '../../support/cri/events.ts';
import { kernelHas } from '../../support/kernel.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;
const MEMORY = 24 << 20;
/** tail keeps a line until it ends, and this one never does. */
const HOG = 'tail /dev/zero';

/** Linux 6.15 tells how a process ended to others than its parent; on older ones it may be unknown, as a created container's parent has gone. */
const known = kernelHas('6.15');

interface State {
  status: string;
  exit?: {
    status: number;
    reason: string;
    signal?: number;
    oomKills?: number;
    oomCgroup?: string;
    time?: string;
  };
}

describe('out of memory', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const ended = async (script: string): Promise<State> => {
    const id = uniqueId('oom');
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux.resources = { memory: { limit: MEMORY, swap: MEMORY } };
    });
    await wherry.must(['create', '-b', bundle, id], { outputFile: `${bundle}/out`, timeout });
    await wherry.must(['start', id], { timeout });
    const state = await eventually(
      `${id} has stopped`,
      async () => {
        const found = JSON.parse(await wherry.must(['state', id], { timeout })) as State;
        return found.status === 'stopped' ? found : undefined;
      },
      timeout,
    );
    await wherry.must(['delete', id], { timeout });
    delete state.exit?.time;
    return state;
  };

  test('the init is killed: 137, and the state says why', async () => {
    const { exit } = await ended(`exec ${HOG}`);
    if (known || exit !== undefined)
      assert.deepEqual(exit, { status: 137, reason: 'oom-killed', signal: 9, oomKills: 1, oomCgroup: '/' });
  });

  test('a child is killed: counted, but not why the init ended', async () => {
    const { exit } = await ended(`${HOG}; exit 3`);
    if (known || exit !== undefined)
      assert.deepEqual(exit, { status: 3, reason: 'exited', oomKills: 1, oomCgroup: '/' });
  });

  test('a signal from outside is no such kill, even after one', async () => {
    const id = uniqueId('killed');
    const bundle = await makeBundle(
      wherry.folder,
      id,
      ['/bin/sh', '-c', `${HOG}; exec sleep 1000`],
      (config) => {
        config.linux.resources = { memory: { limit: MEMORY, swap: MEMORY } };
      },
    );
    await wherry.must(['create', '-b', bundle, id], { outputFile: `${bundle}/out`, timeout });
    await wherry.must(['start', id], { timeout });
    const state = async () =>
      JSON.parse(await wherry.must(['state', id], { timeout })) as State & { pid: number };
    const { pid } = await state();
    const name = () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    await eventually('its child is killed', () => name() === 'sleep' || undefined, timeout);
    await wherry.must(['kill', id, 'KILL'], { timeout });
    const stopped = await eventually(
      `${id} has stopped`,
      async () => {
        const found = await state();
        return found.status === 'stopped' ? found : undefined;
      },
      timeout,
    );
    delete stopped.exit?.time;
    if (known || stopped.exit !== undefined)
      assert.deepEqual(stopped.exit, {
        status: 137,
        reason: 'signaled',
        signal: 9,
        oomKills: 1,
        oomCgroup: '/',
      });
    await wherry.must(['delete', id], { timeout });
  });

  test("containerd hears of it before the exit, and of a living container's at once", async () => {
    await using containerd = await Containerd.start('1.6');
    const events = await TaskEvents.start(containerd);
    try {
      const topics = (id: string) => events.of(id).map((event) => event.split(' ')[0] ?? '');
      const flags = ['--memory-limit', String(MEMORY)];
      const dies = uniqueId('dies');
      const result = await containerd.runContainer('io.containerd.wherry.v1', ['--rm', ...flags], dies, [
        '/bin/sh',
        '-c',
        `exec ${HOG}`,
      ]);
      assert.equal(result.code, 137, result.stderr);
      await eventually('the end is told', () => topics(dies).includes('/tasks/delete') || undefined, timeout);
      const order = topics(dies).filter((topic) => topic === '/tasks/oom' || topic === '/tasks/exit');
      assert.deepEqual(order, ['/tasks/oom', '/tasks/exit']);

      const lives = uniqueId('lives');
      await containerd.runContainer('io.containerd.wherry.v1', ['--detach', ...flags], lives, [
        '/bin/sh',
        '-c',
        `${HOG}; exec sleep 1000`,
      ]);
      await eventually('the kill is told', () => topics(lives).includes('/tasks/oom') || undefined, timeout);
      assert.equal(topics(lives).includes('/tasks/exit'), false);
    } finally {
      await events.end();
    }
  });
});
