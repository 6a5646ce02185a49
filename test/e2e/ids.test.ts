/** Ids at their limits, and containers that have no mount namespace to tell them apart from the host. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { peers } from '../support/debs.ts';
import { uniqueId } from '../support/paths.ts';
import { Wherry } from '../support/wherry.ts';

describe('ids', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  const quiet = { outputFile: '/dev/null' };

  test('of 1,024 characters, twice with the same beginning', async () => {
    const [one, other] = ['a', 'b'].map((last) => uniqueId('long').padEnd(1023, 'x') + last) as [
      string,
      string,
    ];
    const bundle = await makeBundle(wherry.folder, uniqueId('long'), ['/bin/sleep', '1000']);
    for (const id of [one, other]) await wherry.must(['run', '-d', '-b', bundle, id], quiet);
    const listed = (await wherry.must(['list', '-q'])).trim().split('\n').sort();
    assert.deepEqual(listed, [one, other].sort());
    assert.equal(await wherry.must(['exec', one, '/bin/echo', 'there']), 'there\n');
    await wherry.must(['delete', '-f', one]);
    assert.equal(JSON.parse(await wherry.must(['state', other])).id, other);
    const root = join(wherry.folder, 'root');
    await wherry.must(['--root', root, 'run', '-d', '-b', bundle, one], quiet);
    assert.equal(JSON.parse(await wherry.must(['--root', root, 'state', one])).id, one);
    await wherry.must(['--root', root, 'delete', '-f', one]);
    await wherry.must(['delete', '-f', other]);
  });

  test('of one more are refused, and so is what runc refuses', async () => {
    const bundle = await makeBundle(wherry.folder, uniqueId('bad'), ['/bin/true']);
    for (const id of ['x'.repeat(1025), 'a/b', 'a b', '..', 'ü']) {
      const result = await wherry.run(['run', '-b', bundle, id]);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, /invalid container ID format/);
    }
  });

  test('without a mount namespace an exec has the same root as the init', async () => {
    const id = uniqueId('bare');
    const bundle = join(wherry.folder, id);
    mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true });
    copyFileSync((await peers()).busybox, join(bundle, 'rootfs/bin/busybox'));
    for (const name of ['ls', 'sleep']) symlinkSync('busybox', join(bundle, 'rootfs/bin', name));
    const config = {
      ociVersion: '1.3.0',
      root: { path: 'rootfs' },
      process: { args: ['/bin/sleep', '1000'], cwd: '/', user: {} },
      linux: { cgroupsPath: `/${id}`, namespaces: [{ type: 'pid' }] },
    };
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    await wherry.must(['run', '-d', '-b', bundle, id], quiet);
    assert.equal(await wherry.must(['exec', id, '/bin/ls', '/']), 'bin\ndev\n');
    assert.ok(existsSync(join(bundle, 'rootfs/dev/null')), 'devices are the image’s own there');
    await wherry.must(['delete', '-f', id]);
  });
});
