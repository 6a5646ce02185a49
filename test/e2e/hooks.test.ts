/** Hooks of a container that containerd asks for: keel plays them, nobody's terminal is there. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle } from '../support/bundle.ts';
import { Containerd } from '../support/containerd.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';

const runtime = 'io.containerd.wherry.v1';
const kinds = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];

describe('hooks under containerd', () => {
  let containerd: Containerd;
  before(async () => {
    containerd = await Containerd.start('2.1');
  });
  after(() => containerd?.stop());

  /** ctr run of a bundle whose hooks of every kind write their name to `log`; `broken` of them fails. */
  async function runWithHooks(name: string, broken = '') {
    const id = uniqueId(name);
    const log = join(containerd.folder, `${id}.log`);
    const bundle = await makeBundle(containerd.folder, id, ['/bin/echo', 'program'], (config) => {
      config.root.path = join(containerd.folder, id, 'rootfs');
      config.linux['cgroupsPath'] = `/${id}`;
      config['hooks'] = Object.fromEntries(
        kinds
          // Those inside cannot write to the host.
          .map((kind) => {
            const script = kind === 'startContainer' ? 'true' : `echo ${kind} >> ${log}`;
            const end = kind === broken ? '; echo it is broken; exit 3' : '';
            return [kind, [{ path: '/bin/sh', args: ['sh', '-c', script + end], env: ['PATH=/bin'] }]];
          }),
      );
    });
    const result = await containerd.ctr(
      ['run', '--rm', '--runtime', runtime, '--config', join(bundle, 'config.json'), id],
      { timeout: 60_000 },
    );
    const ran = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
    return { ...result, ran };
  }

  test('all six kinds run', async () => {
    const { code, stdout, stderr, ran } = await runWithHooks('hooks');
    assert.equal(code, 0, stderr + containerd.tail());
    assert.equal(stdout, 'program\n');
    assert.deepEqual(
      ran,
      kinds.filter((kind) => kind !== 'startContainer'),
    );
  });

  test('wherryd dies over a hook of create: poststop hooks take away what it has made, then create begins anew', async () => {
    const id = uniqueId('over');
    const log = join(containerd.folder, `${id}.log`);
    const once = join(containerd.folder, `${id}.once`);
    const ran = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []);
    const bundle = await makeBundle(containerd.folder, id, ['/bin/echo', 'program'], (config) => {
      config.root.path = join(containerd.folder, id, 'rootfs');
      config.linux['cgroupsPath'] = `/${id}`;
      const hook = (script: string) => [
        { path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] },
      ];
      config['hooks'] = {
        createRuntime: hook(`echo made >> ${log}; [ -e ${once} ] || { touch ${once}; sleep 1000; }`),
        poststop: hook(`echo gone >> ${log}`),
      };
    });
    const args = ['run', '--rm', '--runtime', runtime, '--config', join(bundle, 'config.json'), id];
    const running = containerd.ctr(args, { timeout: 120_000 });
    await eventually('its hook runs', () => existsSync(once) || undefined);
    process.kill((await containerd.daemon()).wherryd, 'SIGKILL');
    const { code, stdout, stderr } = await running;
    assert.deepEqual([code, stdout], [0, 'program\n'], stderr + containerd.tail());
    assert.deepEqual(ran(), ['made', 'gone', 'made', 'gone']);
  });

  for (const broken of ['createRuntime', 'startContainer', 'poststart']) {
    test(`a failing ${broken} hook is told to the caller`, async () => {
      const { code, stderr, ran } = await runWithHooks(`bad-${broken.toLowerCase()}`, broken);
      assert.notEqual(code, 0);
      assert.match(stderr, new RegExp(`hooks\\.${broken}\\[0\\]: exit status 3: it is broken`));
      assert.equal(ran.at(-1), 'poststop');
    });
  }
});
