/** Callers keep their states under a --root of their own: those containers outlive wherryd as all others do. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

test('a container under --root is known to the next wherryd', async () => {
  await using wherry = new Wherry();
  const id = uniqueId('root');
  const root = ['--root', join(wherry.folder, 'states')];
  const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000']);
  await wherry.must([...root, 'run', '-d', '-b', bundle, id], { outputFile: join(wherry.folder, 'out') });
  const wherryd = async (): Promise<number> => (await wherry.daemon()).wherryd;
  const first = await wherryd();
  process.kill(first, 'SIGKILL');
  await eventually('another wherryd', async () => (await wherryd()) !== first || undefined);
  assert.equal(JSON.parse(await wherry.must([...root, 'state', id])).status, 'running');
  assert.equal(await wherry.must([...root, 'list', '-q']), `${id}\n`);
  assert.equal(await wherry.must(['list', '-q']), '');
  await wherry.must([...root, 'delete', '-f', id]);
  assert.deepEqual(readdirSync(join(wherry.folder, 'states')), []);
  const containers = join(wherry.runDir, 'containers');
  const links = existsSync(containers) ? readdirSync(containers, { recursive: true }) : [];
  assert.ok(!links.some((path) => String(path).includes(id)), String(links));
});

test('when `daemon stop` has answered, wherryd has ended and writes nothing more', async () => {
  for (let round = 0; round < 5; round++) {
    await using wherry = new Wherry();
    const status = await wherry.must(['daemon', 'start']).then(() => wherry.must(['daemon', 'status']));
    const pid = /wherryd: +pid (\d+)/.exec(status)?.[1];
    assert.ok(pid !== undefined && existsSync(`/proc/${pid}`), status);
    await wherry.must(['daemon', 'stop']);
    assert.ok(!existsSync(`/proc/${pid}`), `wherryd ${pid}`);
    assert.ok(!existsSync(join(wherry.runDir, 'keel.lock')), 'keel is there');
  }
});
