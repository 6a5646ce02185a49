/** What tests of a shortage (descriptors, room) share: containers under containerd that end with 7 on SIGTERM and leave nothing. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { below } from '../support/below.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import type { Containerd } from '../support/containerd.ts';
import { imageName } from '../support/image.ts';
import { dist, uniqueId } from '../support/paths.ts';
import { eventually, type RunOptions, type RunResult } from '../support/run.ts';
import { handlesTerm } from '../support/signals.ts';

export const timeout = 60_000;
export const wherry = join(dist, 'bin/wherry');
const runtime = 'io.containerd.wherry.v1';
const program = ['/bin/sh', '-c', 'trap "exit 7" TERM; sleep 1000000 & wait'];

/** Environment of commands for the wherryd of this containerd. */
export const envOf = ({ runDir }: Containerd) => ({
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  WHERRY_RUN_DIR: runDir,
});

export const tryToRun = (containerd: Containerd, id: string): Promise<RunResult> =>
  containerd.ctr(['run', '-d', '--runtime', runtime, imageName, id, ...program], { timeout });

export async function start(containerd: Containerd): Promise<string> {
  const id = uniqueId('short');
  const { code, stderr } = await tryToRun(containerd, id);
  assert.equal(code, 0, stderr + containerd.tail());
  return id;
}

export async function statusOf(containerd: Containerd, id: string): Promise<string> {
  return (await containerd.tasks()).get(id)?.status ?? 'gone';
}

/** Mounts, cgroups and files of the run folder that bear its name. */
export const leftOf = ({ runDir }: Containerd, id: string): string[] =>
  [...mounts(), ...allCgroups(), ...below(runDir)].filter((path) => path.includes(id));

export async function kill(containerd: Containerd, id: string): Promise<void> {
  await handlesTerm(async () => (await containerd.tasks()).get(id)?.pid ?? 0);
  await containerd.mustCtr(['task', 'kill', '-s', 'SIGTERM', id]);
  await eventually('it is stopped', async () => (await statusOf(containerd, id)) === 'STOPPED' || undefined);
}

export async function remove(containerd: Containerd, id: string, options: RunOptions = {}): Promise<void> {
  assert.match((await containerd.ctr(['task', 'rm', id], options)).stderr, /exit code 7/);
  await containerd.mustCtr(['container', 'rm', id]);
  assert.deepEqual(leftOf(containerd, id), []);
}
