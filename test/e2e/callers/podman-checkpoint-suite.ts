/** podman's checkpoint and restore, of any version, and the real criu. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { criuProgram } from '../../support/criu.ts';
import { eventually } from '../../support/run.ts';
import { Podman, type PodmanOptions } from './podman.ts';

export function podmanCheckpoint(name: string, options: PodmanOptions): void {
  test(`a counting container goes on after ${name} container restore`, async () => {
    await using podman = await Podman.start({
      ...options,
      criu: await criuProgram(),
      runtime: process.env['CALLERS_RUNTIME'],
    });
    await podman.detached('count', [
      '/bin/sh',
      '-c',
      'i=0; while :; do i=$((i+1)); echo n $i; sleep 0.1; done',
    ]);
    const last = async () =>
      Number([...(await podman.must(['logs', 'count'])).matchAll(/^n (\d+)$/gm)].at(-1)?.[1] ?? 0);
    await eventually('output', async () => (await last()) > 3 || undefined);
    await podman.must(['container', 'checkpoint', 'count']);
    assert.equal(await podman.inspect('count', '{{.State.Checkpointed}} {{.State.Running}}'), 'true false');
    const then = await last();
    await podman.must(['container', 'restore', 'count']);
    assert.equal(await podman.inspect('count', '{{.State.Status}}'), 'running');
    await eventually('more output', async () => (await last()) > then + 3 || undefined);
    const numbers = [...(await podman.must(['logs', 'count'])).matchAll(/^n (\d+)$/gm)].map(([, n]) =>
      Number(n),
    );
    // From 1 on, one by one: nothing began anew.
    assert.ok(
      numbers.every((number, index) => index === 0 || number >= (numbers[index - 1] ?? 0)),
      `${numbers}`,
    );
    await podman.must(['rm', '-f', '-t', '0', 'count']);
    assert.equal(await podman.runtimeList(), '');
  });
}
