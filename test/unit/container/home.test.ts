import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { homeOf, layersOf, withHome } from '../../../src/container/home.ts';
import { checkConfig } from '../../../src/oci/config.ts';
import { defaultSpec } from '../../../src/oci/defaults.ts';

let base = '';
before(() => {
  base = mkdtempSync(join(tmpdir(), 'wherry-home-'));
  for (const layer of ['upper', 'middle', 'lower']) mkdirSync(join(base, layer, 'etc'), { recursive: true });
  writeFileSync(
    join(base, 'lower/etc/passwd'),
    'root:x:0:0:root:/lower-root:/bin/sh\napp:x:7:7::/srv/app:\n',
  );
  writeFileSync(join(base, 'middle/etc/passwd'), 'root:x:0:0:root:/middle-root:/bin/sh\n');
});
after(() => rmSync(base, { recursive: true }));

const spec = (uid: number, env: string[]) => {
  const raw = defaultSpec();
  const { config } = checkConfig({ ...raw, process: { ...raw.process, env, user: { uid, gid: 0 } } });
  return config;
};
const homes = (env: readonly string[] | undefined) =>
  (env ?? []).filter((entry) => entry.startsWith('HOME='));
const overlay = (lower: string) => ({
  type: 'overlay',
  source: 'overlay',
  target: '',
  options: [`upperdir=${base}/upper`, `workdir=${base}/w`, `lowerdir=${lower}`],
});

test('the line of the user id decides', () => {
  assert.equal(homeOf('a:x:1:1::/a:\nb:x:10:1::/b:\n', 10), '/b');
  assert.equal(homeOf('a:x:1:1::/a:\n', 2), undefined);
  assert.equal(homeOf('a:x:1:1:::\n', 1), undefined);
});

test('a root filesystem that is there', async () => {
  const found = await withHome(spec(7, []), join(base, 'lower'), []);
  assert.deepEqual(homes(found.process.env), ['HOME=/srv/app']);
});

test('an overlay that is not mounted yet: the uppermost layer with the file', async () => {
  const mounts = [overlay(`${base}/middle:${base}/lower`)];
  const found = await withHome(spec(0, []), '/nowhere', mounts);
  assert.deepEqual(homes(found.process.env), ['HOME=/middle-root']);
});

test('HOME that is given stays; an unknown user and a missing file get /', async () => {
  assert.deepEqual(homes((await withHome(spec(0, ['HOME=/given']), join(base, 'lower'), [])).process.env), [
    'HOME=/given',
  ]);
  assert.deepEqual(homes((await withHome(spec(99, []), join(base, 'lower'), [])).process.env), ['HOME=/']);
  assert.deepEqual(homes((await withHome(spec(0, []), join(base, 'upper'), [])).process.env), ['HOME=/']);
});

test('a link out of the root filesystem leads to a file inside it, never to the host', async () => {
  mkdirSync(join(base, 'evil/etc'), { recursive: true });
  symlinkSync('/etc/passwd', join(base, 'evil/etc/passwd'));
  const found = await withHome(spec(0, []), join(base, 'evil'), []);
  assert.deepEqual(homes(found.process.env), ['HOME=/']);
});

test('layers of an overlay, of a bind, of the folder itself', () => {
  assert.deepEqual(layersOf('/r', [overlay('/a\\:b:/c')]), [`${base}/upper`, '/a:b', '/c']);
  assert.deepEqual(layersOf('/r', [{ type: 'bind', source: '/s', target: '', options: ['rbind'] }]), ['/s']);
  assert.deepEqual(layersOf('/r', []), ['/r']);
});
