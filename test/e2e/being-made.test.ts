/** Commands for a container whose `run` has not been answered yet: they wait a moment instead of calling it not running. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

test('pause, update, exec and delete wait until a container that is started at once stands', async () => {
  await using wherry = new Wherry();
  await wherry.must(['daemon', 'start']);
  for (const [label, command] of Object.entries({
    pause: (id: string) => ['pause', id],
    update: (id: string) => ['update', '--pids-limit', '77', id],
    exec: (id: string) => ['exec', id, 'true'],
    delete: (id: string) => ['delete', '--force', id],
  })) {
    const id = uniqueId(label);
    const [begun, goOn] = [join(wherry.folder, `${id}.begun`), join(wherry.folder, `${id}.go`)];
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
      config['hooks'] = {
        createRuntime: [
          {
            path: '/bin/sh',
            args: ['sh', '-c', `: > ${begun}; until [ -e ${goOn} ]; do sleep 0.02; done`],
          },
        ],
      };
    });
    const running = wherry.run(['run', '-d', '-b', bundle, id], { outputFile: join(bundle, 'out') });
    await eventually('the hook', () => existsSync(begun) || undefined);
    const asked = wherry.run(command(id));
    setTimeout(() => writeFileSync(goOn, ''), 100);
    const answer = await asked;
    assert.equal(answer.code, 0, `${label}: ${answer.stderr}`);
    await running;
    await wherry.run(['delete', '--force', id]);
  }
});
