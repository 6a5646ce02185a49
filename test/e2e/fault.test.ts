/** wherryd dies at every named point of a container's life under a real containerd; `npm run fault` does more of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { FaultPoint } from '../../src/fault.ts';
import { FaultHarness } from '../fault/harness.ts';
import { life } from '../fault/life.ts';
import { cases, lifeOf } from '../fault/points.ts';
import { makeBundle } from '../support/bundle.ts';
import { cgroupFile } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, run } from '../support/run.ts';
import { envOf, leftOf, wherry } from './shortage.ts';

let harness: FaultHarness;

before(async () => {
  harness = await FaultHarness.start('2.1');
});

after(async () => {
  await harness[Symbol.asyncDispose]();
});

for (const { point, act } of cases()) {
  test(`${point}, armed before ${act}`, async () => {
    const outcome = await life(harness, point, {
      acts: lifeOf(act),
      before: (next) => {
        if (next === act) harness.arm(point);
      },
    });
    assert.equal(harness.armed(point), false, 'the point is reached');
    assert.deepEqual(outcome.wrong, []);
    assert.equal(outcome.deaths, 1);
  });
}

test('a create that is being undone when the next wherryd dies, too', async () => {
  const outcome = await life(harness, 'undo.cancelled', {
    before: (next) => {
      if (next !== 'run') return;
      harness.arm('create.played');
      harness.arm('undo.cancelled');
    },
  });
  assert.equal(harness.armed('undo.cancelled'), false, 'the point is reached');
  assert.deepEqual(outcome.wrong, []);
  assert.equal(outcome.deaths, 2);
});

test('a running container keeps its pid while wherryd dies', async () => {
  const outcome = await life(harness, 'between', {
    before: (next) => {
      const pid = harness.wherryd();
      if (next !== 'run' && pid !== undefined) process.kill(pid, 'SIGKILL');
    },
  });
  assert.deepEqual(outcome.wrong, []);
});

describe('a command that nobody repeats', () => {
  let id: string;
  let pid: number;
  before(async () => {
    id = uniqueId('command');
    const { containerd } = harness;
    const bundle = await makeBundle(containerd.folder, id, ['/bin/sleep', '1000'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
      config.linux.resources = { pids: { limit: 50 } };
    });
    const { code, stderr } = await command(['run', '-d', '-b', bundle, id], '/dev/null');
    assert.equal(code, 0, stderr);
    pid = (await state()).pid;
  });
  after(async () => {
    await command(['delete', '--force', id]);
  });

  const command = (args: readonly string[], outputFile?: string) =>
    run(wherry, args, {
      env: envOf(harness.containerd),
      timeout: 60_000,
      ...(outputFile !== undefined && { outputFile }),
    });
  const state = async () =>
    JSON.parse((await command(['state', id])).stdout) as { pid: number; status: string };
  const limit = () => cgroupFile(pid, 'pids', 'pids.max');

  async function cutOff(point: FaultPoint, args: readonly string[]): Promise<void> {
    const { deaths } = harness;
    harness.arm(point);
    const { code, stderr } = await command(args);
    assert.equal(code, 1, stderr);
    assert.equal(harness.armed(point), false, 'the point is reached');
    await eventually('it has died', () => harness.deaths > deaths || undefined);
    await eventually('the next one is ready', () => harness.wherryd());
  }

  test('a create is another one, although the next wherryd counts its calls from one again', async () => {
    const again = uniqueId('again');
    const bundle = await makeBundle(harness.containerd.folder, again, ['/bin/true'], (config) => {
      config.linux['cgroupsPath'] = `/${again}`;
    });
    const create = () => command(['create', '-b', bundle, again], '/dev/null');
    const restart = async (): Promise<void> => {
      const { deaths } = harness;
      process.kill(await eventually('wherryd is ready', () => harness.wherryd()), 'SIGKILL');
      await eventually('it has died', () => harness.deaths > deaths || undefined);
      await eventually('the next one is ready', () => harness.wherryd());
    };
    await restart();
    assert.equal((await create()).code, 0);
    await restart();
    assert.equal((await create()).code, 1, 'it exists');
    assert.equal((await command(['delete', '--force', again])).code, 0);
  });

  // From the moment at which only its state is left its caller waits for nobody.
  for (const point of [
    'create.told',
    'delete.begun',
    'delete.removed',
    'delete.told',
    'delete.forgotten',
  ] as const)
    test(`run, cut off at ${point}, has its program's status, leaves nothing, and its name is free`, async () => {
      const short = uniqueId('short');
      const { deaths, containerd } = harness;
      const bundle = await makeBundle(containerd.folder, short, ['/bin/sh', '-c', 'exit 6'], (config) => {
        config.linux['cgroupsPath'] = `/${short}`;
      });
      harness.arm(point);
      const first = await command(['run', '-b', bundle, short]);
      assert.equal(first.code, 6, first.stderr);
      await eventually('it has died', () => harness.deaths > deaths || undefined);
      await eventually('the next one is ready', () => harness.wherryd());
      await eventually('its state goes', () => leftOf(containerd, short).length === 0 || undefined);
      const second = await command(['run', '-b', bundle, short]);
      assert.equal(second.code, 6, second.stderr);
      await eventually('its state goes', () => leftOf(containerd, short).length === 0 || undefined);
    });

  for (const point of ['update.intent', 'update.written'] as const)
    test(`update, cut off at ${point}, is taken back`, async () => {
      await cutOff(point, ['update', '--pids-limit', '77', id]);
      await eventually('the limit is the old one', () => limit() === '50' || undefined);
      assert.equal((await command(['update', '--pids-limit', '60', id])).code, 0);
      assert.equal(limit(), '60');
      assert.equal((await command(['update', '--pids-limit', '50', id])).code, 0);
    });

  test('pause, cut off when all are frozen: it is paused', async () => {
    await cutOff('pause.frozen', ['pause', id]);
    assert.equal((await state()).status, 'paused');
    assert.equal((await command(['resume', id])).code, 0);
    assert.equal((await state()).status, 'running');
  });

  test('resume, cut off when nothing is frozen any more: it runs', async () => {
    assert.equal((await command(['pause', id])).code, 0);
    await cutOff('resume.thawed', ['resume', id]);
    assert.equal((await state()).status, 'running');
    assert.equal((await command(['pause', id])).code, 0);
    assert.equal((await command(['resume', id])).code, 0);
  });
});
