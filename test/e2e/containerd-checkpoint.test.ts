/** Checkpoint by containerd's task service, and Create from the image: with the real criu. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Containerd } from '../support/containerd.ts';
import { criuProgram, linkedNumber } from '../support/criu.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { runtime } from './containerd-suite.ts';

/** The number is in memory only. A link has it: a file that is open at the checkpoint must be there at the restore, as it was. */
const COUNT = 'i=0; while :; do i=$((i+1)); ln -sfn $i /data/new; mv /data/new /data/count; sleep 0.05; done';

let containerd: Containerd;
before(async () => {
  containerd = await Containerd.start('1.7', { path: [dirname(await criuProgram())] });
});
after(async () => containerd?.stop());

test('ctr checkpoints a task, which goes on in another container from its image', async () => {
  const id = uniqueId('task');
  const data = join(containerd.folder, id);
  mkdirSync(data);
  const mount = `type=bind,src=${data},dst=/data,options=rbind:rw`;
  const count = () => linkedNumber(join(data, 'count'));
  const beyond = (number: number) => eventually(`beyond ${number}`, () => count() > number || undefined);
  const result = await containerd.runContainer(runtime, ['-d', '--mount', mount], id, [
    '/bin/sh',
    '-c',
    COUNT,
  ]);
  assert.equal(result.code, 0, result.stderr + containerd.tail());
  await beyond(3);

  // ctr pauses it, has it written down, and resumes it: it is as before.
  const image = `checkpoint/${id}:latest`;
  await containerd.mustCtr(['container', 'checkpoint', '--task', '--rw', '--image', id, image]);
  const then = count();
  assert.ok(then > 3);
  await beyond(then + 2);
  await containerd.mustCtr(['task', 'kill', '-s', 'KILL', id]);
  await eventually(
    'its end',
    async () => /STOPPED/.test(await containerd.mustCtr(['task', 'ls'])) || undefined,
  );
  const last = count();
  await containerd.mustCtr(['task', 'rm', id]);
  await containerd.mustCtr(['container', 'rm', id]);

  const again = uniqueId('again');
  const restored = await containerd.ctr(['container', 'restore', '--rw', '--live', again, image]);
  assert.equal(restored.code, 0, restored.stderr + containerd.tail());
  await eventually(
    'the count goes on from the image',
    () => (count() !== last && count() > then) || undefined,
  );
  assert.match(await containerd.mustCtr(['task', 'ls']), new RegExp(`^${again} +\\d+ +RUNNING`, 'm'));
  assert.match(
    await containerd.mustCtr(['task', 'exec', '--exec-id', 'look', again, '/bin/ps']),
    /data\/new/,
  );
  await containerd.mustCtr(['task', 'kill', '-s', 'KILL', again]);
  await eventually(
    'its end',
    async () => /STOPPED/.test(await containerd.mustCtr(['task', 'ls'])) || undefined,
  );
  await containerd.mustCtr(['task', 'rm', again]);
  await containerd.mustCtr(['container', 'rm', again]);
});
