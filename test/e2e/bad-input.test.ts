/** Whatever is wrong with a bundle: one clear error that names the field, nothing left behind, and the daemon goes on serving. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { editConfig, makeBundle, type SpecConfig } from '../support/bundle.ts';
import { allCgroups, mounts } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { Wherry } from '../support/wherry.ts';

describe('bad input on the command line', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(async () => {
    await wherry?.[Symbol.asyncDispose]();
  });

  /** Runs the bundle after `spoil`; expects exit code 1 and a message; then that nothing is left and a good bundle runs. */
  async function refused(name: string, spoil: (bundle: string) => void, message: RegExp): Promise<void> {
    const id = uniqueId(name);
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true'], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
    });
    spoil(bundle);
    const result = await wherry.run(['run', '--bundle', bundle, id]);
    assert.equal(result.code, 1, result.stdout + result.stderr);
    assert.match(result.stderr, message);
    assert.doesNotMatch(result.stderr, /\n\s+at /, 'no stack trace');
    assert.deepEqual(
      allCgroups().filter((path) => path.includes(id)),
      [],
    );
    assert.deepEqual(
      mounts().filter((path) => path.includes(id)),
      [],
    );
    const states = join(wherry.runDir, 'containers/local/default');
    assert.deepEqual(existsSync(states) ? readdirSync(states).filter((entry) => entry.includes(id)) : [], []);
    const good = await makeBundle(wherry.folder, `${id}-good`, ['/bin/echo', 'still serving']);
    assert.equal((await wherry.run(['run', '-b', good, `${id}-good`])).stdout, 'still serving\n');
  }
  const edited = (edit: (config: SpecConfig) => void) => (bundle: string) => editConfig(bundle, edit);

  test('no config.json', () =>
    refused('none', (bundle) => rmSync(join(bundle, 'config.json')), /config\.json/));
  test('config.json is not JSON', () =>
    refused(
      'text',
      (bundle) => writeFileSync(join(bundle, 'config.json'), '{ "ociVersion": "1.0.2",\n  process }'),
      /config\.json.*(line 2|:2:)/,
    ));
  test('wrong types', () =>
    refused(
      'types',
      edited((config) => Object.assign(config.process, { args: 'sh' })),
      /process\.args/,
    ));
  test('an unknown namespace', () =>
    refused(
      'namespace',
      edited((config) => config.linux.namespaces.push({ type: 'weather' })),
      /linux\.namespaces\[\d\].*weather/,
    ));
  test('a resource limit that does not exist', () =>
    refused(
      'rlimit',
      edited((config) =>
        Object.assign(config.process, { rlimits: [{ type: 'RLIMIT_FUN', hard: 1, soft: 1 }] }),
      ),
      /process\.rlimits\[0\].*RLIMIT_FUN/,
    ));
  test('a field that this version does not apply', () =>
    refused(
      'feature',
      edited((config) => Object.assign(config.linux, { intelRdt: { closID: 'x' } })),
      /linux\.intelRdt/,
    ));
  test('no root filesystem', () =>
    refused('rootfs', (bundle) => rmSync(join(bundle, 'rootfs'), { recursive: true }), /rootfs|root\.path/));
  test('the program is missing', () =>
    refused(
      'missing',
      edited((config) => Object.assign(config.process, { args: ['/no/such/program'] })),
      /\/no\/such\/program.*no such file or directory/,
    ));
  test('the program is not in PATH', () =>
    refused(
      'path',
      edited((config) => Object.assign(config.process, { args: ['nosuchprogram'] })),
      /nosuchprogram.*executable file not found in \$PATH/,
    ));
  test('the program is not executable', () =>
    refused(
      'noexec',
      edited((config) => Object.assign(config.process, { args: ['/etc/passwd'] })),
      /\/etc\/passwd.*permission denied/,
    ));
  test('the bundle is a file', () =>
    refused(
      'file',
      (bundle) => {
        rmSync(bundle, { recursive: true });
        writeFileSync(bundle, '');
      },
      /bundle|directory/,
    ));

  test('an id that is no id', async () => {
    mkdirSync(join(wherry.folder, 'empty'), { recursive: true });
    for (const id of ['', '..', 'a/b', 'x'.repeat(1025)]) {
      const result = await wherry.run(['run', '-b', join(wherry.folder, 'empty'), id]);
      assert.equal(result.code, 1, JSON.stringify(id.slice(0, 20)));
      assert.match(result.stderr, /id/i);
    }
  });

  test('an unknown command and an unknown flag', async () => {
    const command = await wherry.run(['rnu']);
    assert.notEqual(command.code, 0);
    assert.match(command.stdout + command.stderr, /run/, 'a suggestion');
    const flag = await wherry.run(['run', '--no-such-flag', 'x']);
    assert.equal(flag.code, 1);
    assert.match(flag.stdout + flag.stderr, /no-such-flag/);
  });
});
