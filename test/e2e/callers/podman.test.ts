/** podman 4.3 with Wherry as its runtime. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Podman } from './podman.ts';
import { podmanBehaviours } from './podman-suite.ts';

podmanBehaviours('podman 4.3', {});

test('podman finds Wherry installed under the name runc', async () => {
  await using podman = await Podman.start({ installedAs: 'runc' });
  const result = await podman.container(['--rm'], ['/bin/echo', 'sails']);
  assert.deepEqual(result, { code: 0, stdout: 'sails\n', stderr: '' });
  const failed = await podman.container(['--rm'], ['/not/there']);
  assert.match(failed.stderr, /runc create failed: unable to start container process: exec: "\/not\/there"/);
  assert.ok(existsSync(join(podman.runDir, 'keel.sock')));
});
