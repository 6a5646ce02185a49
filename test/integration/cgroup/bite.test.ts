/** Limits bite: a hog of the processor is held at its quota, a fork bomb at its number of processes; a static sleep needs next to nothing. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { cgroupFile } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

/** An emulated processor takes its time. */
const timeout = 90_000;

describe('limits bite', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  const start = async (
    script: string,
    resources: Record<string, unknown>,
  ): Promise<{ id: string; pid: number }> => {
    const id = uniqueId('bite');
    const edit = (config: SpecConfig): void => {
      config.linux['cgroupsPath'] = `/${id}`;
      config.linux.resources = resources;
    };
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], edit);
    const result = await wherry.run(['create', '-b', bundle, id], {
      outputFile: join(bundle, 'out'),
      timeout,
    });
    assert.equal(result.code, 0, readFileSync(join(bundle, 'out'), 'utf8'));
    await wherry.must(['start', id], { timeout });
    const { pid } = JSON.parse(await wherry.must(['state', id], { timeout })) as { pid: number };
    return { id, pid };
  };

  test('a hog of the processor gets its quota, within 10 %, over 5 s', async () => {
    // Small: a machine that is busy with others may give it no more than a few hundredths.
    const QUOTA_US = 5_000;
    const { id, pid } = await start('while :; do :; done', { cpu: { quota: QUOTA_US, period: 100_000 } });
    // The kernel's own count of periods is the clock: of a machine that is busy with others, only what was asked for counts.
    const sample = () => {
      const stat = cgroupFile(pid, 'cpu', 'cpu.stat') ?? '';
      const field = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1]);
      const v1 = cgroupFile(pid, 'cpuacct', 'cpuacct.usage');
      const usage = /^usage_usec/m.test(stat) ? field('usage_usec') : Number(v1) / 1000;
      return { usage, periods: field('nr_periods'), throttled: field('nr_throttled') };
    };
    await eventually('it is throttled', () => sample().throttled > 0 || undefined, timeout);
    const first = sample();
    const last = await eventually(
      '50 periods of 100 ms have passed',
      () => {
        const now = sample();
        return now.periods - first.periods >= 50 ? now : undefined;
      },
      timeout,
    );
    const used = last.usage - first.usage;
    const periods = last.periods - first.periods;
    const throttled = last.throttled - first.throttled;
    // One period's slack for the two ends of the measurement.
    assert.ok(used <= (periods + 1) * QUOTA_US * 1.1, `${used} us in ${periods} periods of ${QUOTA_US} us`);
    assert.ok(
      used >= (throttled - 1) * QUOTA_US * 0.9,
      `${used} us though throttled in ${throttled} periods`,
    );
    assert.ok(throttled > 0);
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('a fork bomb stops at pids.max, and the container lives on', async () => {
    const bomb = '(for n in $(seq 100); do sleep 1000 & done); exec sleep 1000';
    const { id, pid } = await start(bomb, { pids: { limit: 20 } });
    const max = () => Number(/^max (\d+)$/m.exec(cgroupFile(pid, 'pids', 'pids.events') ?? '')?.[1] ?? 0);
    await eventually('a fork was refused', () => max() > 0 || undefined, timeout);
    assert.ok(Number(cgroupFile(pid, 'pids', 'pids.current')) <= 20);
    await eventually(
      'the init goes on',
      () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sleep' || undefined,
      timeout,
    );
    await wherry.must(['delete', '--force', id], { timeout });
  });

  test('a static sleep starts under a limit of 1 MiB', async () => {
    const { id, pid } = await start('exec sleep 1000', { memory: { limit: 1 << 20, swap: 1 << 20 } });
    const state = async () =>
      (JSON.parse(await wherry.must(['state', id], { timeout })) as { status: string }).status;
    await eventually(
      'it sleeps',
      async () => {
        assert.equal(await state(), 'running');
        return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'sleep' || undefined;
      },
      timeout,
    );
    await wherry.must(['delete', '--force', id], { timeout });
  });
});
