/** wherryd dies at every named point of an exec's life, and while execs run; containerd's client sees nothing of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { FaultPoint } from '../../src/fault.ts';
import { FaultHarness } from '../fault/harness.ts';
import { imageName } from '../support/image.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';

const points: readonly FaultPoint[] = ['exec.recorded', 'exec.begun', 'exec.played', 'exec.told', 'answer'];

for (const version of ['1.6', '2.1'] as const) {
  describe(`execs while wherryd dies, containerd ${version}`, () => {
    let harness: FaultHarness;
    let id: string;
    before(async () => {
      harness = await FaultHarness.start(version);
      id = uniqueId('e');
      const runtime = ['--runtime', 'io.containerd.wherry.v1'];
      await harness.containerd.mustCtr(['run', '-d', ...runtime, imageName, id, '/bin/sleep', '1000']);
    });
    after(async () => {
      await harness?.[Symbol.asyncDispose]();
    });

    const exec = (name: string, script: string, flags: readonly string[] = []) =>
      harness.containerd.ctr(['task', 'exec', '--exec-id', name, ...flags, id, '/bin/sh', '-c', script]);
    /** Without an event's second coming: wherryd may have died between its sending and containerd's answer. */
    const told = (name: string) =>
      harness.events(id, name).filter((topic, index, all) => topic !== all[index - 1]);

    for (const point of points) {
      test(`at ${point}`, async () => {
        const name = uniqueId('x');
        const deaths = harness.deaths;
        harness.arm(point);
        const result = await exec(name, 'echo out; exit 5');
        assert.equal(harness.armed(point), false, 'the point is reached');
        assert.deepEqual(
          [result.code, result.stdout],
          [5, 'out\n'],
          result.stderr + harness.containerd.tail(),
        );
        await eventually('wherryd has died', () => harness.deaths > deaths || undefined);
        await eventually('its exit is told', () => told(name).includes('exit') || undefined);
        assert.deepEqual(told(name), ['exec-added', 'exec-started', 'exit']);
      });
    }

    test('execs that run are waited for, keep their streams, and end as they end', async () => {
      const name = uniqueId('long');
      const script = 'echo begin; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo end; exit 6';
      const running = exec(name, script);
      const late = uniqueId('late');
      const ending = exec(late, 'while [ ! -e /tmp/now ]; do sleep 0.05; done; exit 9');
      await eventually(
        'both run',
        () => (told(name).includes('exec-started') && told(late).includes('exec-started')) || undefined,
      );
      const kill = async (): Promise<void> => {
        const pid = await eventually('wherryd is ready', () => harness.wherryd());
        const deaths = harness.deaths;
        process.kill(pid, 'SIGKILL');
        await eventually('it has died', () => harness.deaths > deaths || undefined);
      };
      await kill();
      const listed = await harness.containerd.mustCtr(['task', 'ps', id]);
      assert.match(listed, new RegExp(name), 'it is known by its id');
      assert.equal((await exec(uniqueId('go'), 'touch /tmp/go')).code, 0);
      assert.deepEqual(await running, { code: 6, stdout: 'begin\nend\n', stderr: '' });
      // The other ends while there is no wherryd.
      const ender = exec(uniqueId('now'), 'sleep 0.5; touch /tmp/now');
      await eventually(
        'it runs',
        () => harness.topics(id).filter((topic) => topic === 'exec-started').length > 0 || undefined,
      );
      await kill();
      assert.equal((await ender).code, 0);
      assert.equal((await ending).code, 9);
      for (const one of [name, late]) {
        await eventually('its exit is told', () => told(one).includes('exit') || undefined);
        assert.deepEqual(told(one), ['exec-added', 'exec-started', 'exit']);
      }
    });
  });
}
