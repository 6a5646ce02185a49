/** The same commands as an ordinary user: a daemon of that user's own, a user namespace by itself, no cgroups. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, type RunResult, run } from '../../support/run.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { giveTo, writeSmallRoot } from '../oci-suite/host.ts';

/** An id that nobody has: nothing of the machine belongs to it. */
const user = 41_234;

describe('as an ordinary user', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder();
    for (const name of ['store', 'home', 'run']) mkdirSync(join(folder, name));
    chmodSync(folder, 0o755);
    chmodSync(join(folder, 'run'), 0o700);
    for (const name of ['home', 'run']) chownSync(join(folder, name), user, user);
  });
  after(async () => {
    await wherry(['daemon', 'stop', '--force']);
    rmSync(folder, { recursive: true, force: true });
  });

  /** XDG_RUNTIME_DIR names the run folder, as a login gives it. */
  function wherry(args: readonly string[]): Promise<RunResult> {
    const as = ['--reuid', String(user), '--regid', String(user), '--clear-groups', '--'];
    const env = { PATH: '/usr/bin:/bin', HOME: join(folder, 'home'), XDG_RUNTIME_DIR: join(folder, 'run') };
    return run('setpriv', [...as, wherryBinary, ...args], { env });
  }

  async function bundleOf(name: string, config: JsonObject): Promise<[bundle: string, id: string]> {
    const id = uniqueId(name);
    const bundle = join(folder, 'home', id);
    await writeSmallRoot(join(bundle, 'rootfs'), join(folder, 'store'));
    const whole = configOf({ config: { linux: { cgroupsPath: null }, ...config } }, { id, bundle });
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(whole));
    giveTo(bundle, user);
    return [bundle, id];
  }

  it('run: root inside is the user outside', async () => {
    const [bundle, id] = await bundleOf('run', {});
    const result = await wherry(['run', '-b', bundle, id]);
    assert.equal(result.code, 0, result.stderr);
    const seen = JSON.parse(result.stdout) as JsonObject;
    assert.equal(seen['uid'], 0);
    assert.equal(seen['uidMap'], `0 ${user} 1`);
    assert.equal(seen['gidMap'], `0 ${user} 1`);
    assert.equal(seen['setgroups'], 'deny');
    assert.equal(seen['pid'], 1);
    assert.equal(seen['hostname'], 'case');
  });

  it('what the container writes belongs to the user', async () => {
    const [bundle, id] = await bundleOf('write', {
      process: { args: ['/bin/sh', '-c', 'echo x > /tmp/made; stat -c %u:%g /tmp/made; echo y > /dev/null'] },
    });
    const result = await wherry(['run', '-b', bundle, id]);
    assert.equal(result.stdout, '0:0\n', result.stderr);
    assert.equal(
      (await run('stat', ['-c', '%u:%g', join(bundle, 'rootfs/tmp/made')])).stdout,
      `${user}:${user}\n`,
    );
  });

  it("the host's network, and with it the host's sysfs, read-only", async () => {
    const [bundle, id] = await bundleOf('net', {
      linux: {
        cgroupsPath: null,
        namespaces: [{ type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'mount' }],
      },
      process: { args: ['/bin/sh', '-c', 'touch /sys/x 2>&1; ls -d /sys/class/net/lo'] },
    });
    const result = await wherry(['run', '-b', bundle, id]);
    assert.equal(result.stdout, 'touch: /sys/x: Read-only file system\n/sys/class/net/lo\n', result.stderr);
  });

  it('create, start, state, exec, kill, delete', async () => {
    const [bundle, id] = await bundleOf('life', { process: { args: ['/bin/sleep', '1000'] } });
    const must = async (...args: string[]): Promise<string> => {
      const result = await wherry(args);
      assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}`);
      return result.stdout;
    };
    await run(
      'setpriv',
      [
        ...['--reuid', String(user), '--regid', String(user), '--clear-groups', '--'],
        ...[wherryBinary, 'create', '-b', bundle, id],
      ],
      {
        env: { PATH: '/usr/bin:/bin', XDG_RUNTIME_DIR: join(folder, 'run') },
        outputFile: join(folder, 'out'),
      },
    );
    assert.match(await must('state', id), /"status": "created"/);
    await must('start', id);
    assert.match(await must('exec', id, '/bin/id'), /^uid=0\(root\)/);
    assert.match(await must('exec', id, '/bin/cat', '/proc/self/uid_map'), new RegExp(`0 +${user} +1`));
    await must('kill', id, 'KILL');
    await eventually(
      'the end',
      async () => /"status": "stopped"/.test((await wherry(['state', id])).stdout) || undefined,
    );
    await must('delete', id);
  });

  const refused: [string, JsonObject, RegExp][] = [
    [
      "ranges of ids that are not the user's",
      {
        linux: {
          cgroupsPath: null,
          namespaces: [{ type: 'user' }, { type: 'mount' }, { type: 'uts' }, { type: 'pid' }],
          uidMappings: [{ containerID: 0, hostID: 100_000, size: 65_536 }],
          gidMappings: [{ containerID: 0, hostID: 100_000, size: 65_536 }],
        },
      },
      /linux\.uidMappings\[0\]: ids 100000-165535 of the host are not yours to map: \/etc\/subuid has no range for #41234/,
    ],
    [
      'groups that are not mapped',
      { process: { user: { uid: 0, gid: 0, additionalGids: [5] } } },
      /process\.user\.additionalGids\[0\]: id 5 of the container is mapped to no id of the host/,
    ],
    [
      'a mount that its ids do not allow',
      { 'mounts+': [{ destination: '/data', type: 'ext4', source: '/dev/loop0' }] },
      /mount ext4 on \/data: .*\(mounts\[4\]\)/,
    ],
  ];
  for (const [what, config, text] of refused) {
    it(`refused: ${what}`, async () => {
      const [bundle, id] = await bundleOf('refused', config);
      const result = await wherry(['run', '-b', bundle, id]);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, text);
      assert.match((await wherry(['state', id])).stderr, /does not exist/);
    });
  }
});
