/**
 * Attacks on the set-up of a container from inside its root filesystem, played for real: what a container leaves in a root
 * or a volume, and a second process that swaps paths while containers start. Nothing may reach the host.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mounts } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { stop } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { compileProgram, writeSmallRoot } from '../oci-suite/host.ts';

describe('attacks from the root filesystem', () => {
  let wherry: Wherry;
  let decoy: string;
  before(() => {
    wherry = new Wherry();
    mkdirSync(join(wherry.folder, 'store'));
    decoy = join(wherry.folder, 'decoy');
    mkdirSync(decoy);
    writeFileSync(join(decoy, 'secret'), 'the secret of the host');
  });
  after(() => wherry[Symbol.asyncDispose]());

  async function bundleOf(name: string, config: JsonObject): Promise<[bundle: string, id: string]> {
    const id = uniqueId(name);
    const bundle = join(wherry.folder, id);
    await writeSmallRoot(join(bundle, 'rootfs'), join(wherry.folder, 'store'));
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf({ config }, { id, bundle })));
    return [bundle, id];
  }

  const untouched = (): void => {
    assert.deepEqual(readdirSync(decoy), ['secret']);
    assert.ok(!mounts().some((line) => line.includes(decoy)), 'a mount on the host');
  };

  /** Starts containers while `name` of the root is now a folder, now a symlink to the decoy. */
  async function race(name: string, config: JsonObject, rounds: number): Promise<void> {
    const [bundle, id] = await bundleOf('race', config);
    const [folder, link] = [join(bundle, 'rootfs', name), join(bundle, 'rootfs', `${name}.link`)];
    mkdirSync(folder, { recursive: true });
    // Inside of the root the same path leads to an empty folder, so that both of its meanings are fit for a mount.
    mkdirSync(join(bundle, 'rootfs', decoy), { recursive: true });
    symlinkSync(decoy, link);
    const program = await compileProgram(join(import.meta.dirname, 'swap.c'));
    const swapper = spawn(program, [folder, link], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await new Promise((resolve) => swapper.stdout.once('data', resolve));
      let worked = 0;
      for (let round = 0; round < rounds; round++) {
        const result = await wherry.run(['run', '-b', bundle, `${id}-${round}`]);
        if (result.code === 0) worked += 1;
        // An error is no harm: between two looks the name has changed its meaning.
        assert.ok(!result.stdout.includes('secret of the host'), result.stdout);
        untouched();
      }
      assert.equal(swapper.exitCode, null, 'the swapping ended');
      assert.ok(worked > 0, 'no container started at all');
    } finally {
      await stop(swapper, 0);
    }
    rmSync(bundle, { recursive: true, force: true });
  }

  it('a mount target that is swapped for a symlink while containers start (CVE-2021-30465)', async () => {
    await race(
      'volume',
      {
        'mounts+': [{ destination: '/volume/data', type: 'tmpfs', source: 'tmpfs' }],
        process: { args: ['/bin/sh', '-c', 'cat /volume/secret /volume/data/secret; touch /volume/data/x'] },
      },
      30,
    );
  });

  it('folders on the way to a mount target that are swapped (CVE-2024-45310)', async () => {
    await race(
      'volume',
      {
        'mounts+': [{ destination: '/volume/a/b/c', type: 'tmpfs', source: 'tmpfs' }],
        process: { args: ['/bin/true'] },
      },
      30,
    );
  });

  it('masked and read-only paths that are swapped (CVE-2025-31133)', async () => {
    await race(
      'volume',
      {
        linux: { maskedPaths: ['/volume/secret', '/volume'], readonlyPaths: ['/volume'] },
        process: { args: ['/bin/sh', '-c', 'cat /volume/secret; touch /volume/x'] },
      },
      30,
    );
  });

  it('devices are not made through a /dev that is a symlink (CVE-2026-41579)', async () => {
    const [bundle, id] = await bundleOf('dev', {
      mounts: [{ destination: '/dev', type: 'tmpfs', source: 'tmpfs' }],
      linux: { devices: [{ type: 'c', path: '/dev/mine', major: 1, minor: 3 }] },
      process: { args: ['/bin/true'] },
    });
    rmSync(join(bundle, 'rootfs/dev'), { recursive: true });
    symlinkSync(decoy, join(bundle, 'rootfs/dev'));
    await wherry.run(['run', '-b', bundle, id]);
    untouched();
  });

  for (const place of ['proc', 'sys']) {
    it(`/${place} that is a symlink is refused (CVE-2019-19921, CVE-2023-27561)`, async () => {
      const [bundle, id] = await bundleOf('link', {});
      rmSync(join(bundle, 'rootfs', place), { recursive: true });
      symlinkSync('/tmp', join(bundle, 'rootfs', place));
      const result = await wherry.run(['run', '-b', bundle, id]);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, new RegExp(`on /${place}: too many levels of symbolic links`));
    });
  }

  it('a working folder in somebody’s descriptors is refused (CVE-2024-21626)', async () => {
    for (const descriptor of [3, 4, 5, 6, 7, 8, 9, 10]) {
      const [bundle, id] = await bundleOf('cwd', {
        process: { cwd: `/proc/self/fd/${descriptor}`, args: ['/bin/cat', '../../../../etc/hostname'] },
      });
      const result = await wherry.run(['run', '-b', bundle, id]);
      assert.notEqual(result.code, 0, `descriptor ${descriptor}: ${result.stdout}`);
    }
  });

  it('nothing but 0, 1 and 2 is open in the container', async () => {
    const [bundle, id] = await bundleOf('fds', {});
    const result = await wherry.run(['run', '-b', bundle, id]);
    const seen = JSON.parse(result.stdout) as { fds: number[] };
    assert.deepEqual(
      seen.fds.sort((a, b) => a - b),
      [0, 1, 2],
    );
  });
});
