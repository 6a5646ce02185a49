/**
 * Attacks on the set-up of a container from inside its root filesystem, played for real: what a container leaves in a root
 * or a volume, and a second process that swaps paths while containers start. Nothing may reach the host.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
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

  const unmounted = (): void => {
    assert.ok(!mounts().some((line) => line.includes(decoy)), 'a mount on the host');
  };
  const untouched = (): void => {
    assert.deepEqual(readdirSync(decoy), ['secret']);
    unmounted();
  };

  /** A second process that exchanges two names all the time. */
  async function swap(one: string, other: string): Promise<AsyncDisposable & { running(): boolean }> {
    const program = await compileProgram(join(import.meta.dirname, 'swap.c'));
    const swapper = spawn(program, [one, other], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => swapper.stdout.once('data', resolve));
    return {
      running: () => swapper.exitCode === null,
      [Symbol.asyncDispose]: () => stop(swapper, 0),
    };
  }

  /** Starts containers while `name` of the root is now a folder, now a symlink to the decoy. */
  async function race(
    name: string,
    config: JsonObject,
    rounds: number,
    more: () => void = () => assert.deepEqual(readdirSync(decoy), ['secret']),
  ): Promise<void> {
    const [bundle, id] = await bundleOf('race', config);
    const [folder, link] = [join(bundle, 'rootfs', name), join(bundle, 'rootfs', `${name}.link`)];
    mkdirSync(folder, { recursive: true });
    // Inside of the root the same path leads to an empty folder, so that both of its meanings are fit for a mount.
    mkdirSync(join(bundle, 'rootfs', decoy), { recursive: true });
    symlinkSync(decoy, link);
    {
      await using swapping = await swap(folder, link);
      let worked = 0;
      for (let round = 0; round < rounds; round++) {
        const result = await wherry.run(['run', '-b', bundle, `${id}-${round}`]);
        if (result.code === 0) worked += 1;
        // An error is no harm: between two looks the name has changed its meaning.
        assert.ok(!result.stdout.includes('secret of the host'), result.stdout);
        unmounted();
        more();
      }
      assert.ok(swapping.running(), 'the swapping ended');
      assert.ok(worked > 0, 'no container started at all');
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

  it('a /proc that is swapped for a folder of fake files while sysctls and scores are written (CVE-2019-16884, CVE-2025-52881)', async () => {
    const trap = join(decoy, 'sys/net/ipv4/ip_unprivileged_port_start');
    mkdirSync(join(decoy, 'sys/net/ipv4'), { recursive: true });
    mkdirSync(join(decoy, 'self/attr'), { recursive: true });
    const files = [
      trap,
      ...['oom_score_adj', 'attr/exec', 'setgroups'].map((name) => join(decoy, 'self', name)),
    ];
    for (const file of files) writeFileSync(file, 'trap');
    try {
      await race(
        'proc',
        {
          linux: {
            sysctl: { 'net.ipv4.ip_unprivileged_port_start': '77' },
            maskedPaths: [],
            readonlyPaths: [],
          },
          process: { args: ['/bin/true'], oomScoreAdj: 500 },
        },
        20,
        () => {
          for (const file of files) assert.equal(readFileSync(file, 'utf8'), 'trap', file);
        },
      );
    } finally {
      for (const name of ['sys', 'self']) rmSync(join(decoy, name), { recursive: true });
    }
  });

  it('a /dev that is swapped while devices are made in it (CVE-2026-41579)', async () => {
    await race(
      'dev',
      {
        mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
        linux: { devices: [{ type: 'c', path: '/dev/mine', major: 1, minor: 3 }] },
        process: { args: ['/bin/true'] },
      },
      20,
    );
  });

  it('a folder on the way to a device that is swapped (CVE-2026-47766)', async () => {
    await race(
      'volume',
      {
        linux: { devices: [{ type: 'c', path: '/volume/deep/mine', major: 1, minor: 3 }] },
        process: { args: ['/bin/true'] },
      },
      20,
    );
  });

  it('the place of /dev/console that is swapped while the terminal is mounted (CVE-2025-52565)', async () => {
    const socket = join(wherry.folder, 'console.s');
    // Whoever has the master keeps it until create has answered: without it the terminal cannot be opened, and no create
    // gets as far as the mount.
    const masters: Socket[] = [];
    const server = createServer({ pauseOnConnect: true }, (connection) => masters.push(connection));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const [bundle, id] = await bundleOf('console', {
      // No /dev of ours: it is the image's, and another process holds it, too.
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        {
          destination: '/dev/pts',
          type: 'devpts',
          source: 'devpts',
          options: ['newinstance', 'ptmxmode=0666'],
        },
      ],
      linux: { maskedPaths: [], readonlyPaths: [] },
      process: { args: ['/bin/true'], terminal: true },
    });
    const place = join(bundle, 'rootfs/dev/console');
    mkdirSync(join(bundle, 'rootfs/dev/pts'), { recursive: true });
    writeFileSync(place, '');
    symlinkSync(join(decoy, 'secret'), `${place}.link`);
    try {
      await using _ = await swap(place, `${place}.link`);
      let worked = 0;
      for (let round = 0; round < 20; round++) {
        const name = `${id}-${round}`;
        const outputFile = join(wherry.folder, 'console.out');
        const args = ['create', '-b', bundle, '--console-socket', socket, name];
        if ((await wherry.run(args, { outputFile })).code === 0) {
          worked++;
          await wherry.must(['delete', '--force', name]);
        }
        for (const master of masters.splice(0)) master.destroy();
        untouched();
        assert.equal(readFileSync(join(decoy, 'secret'), 'utf8'), 'the secret of the host');
      }
      assert.ok(worked > 0, readFileSync(join(wherry.folder, 'console.out'), 'utf8'));
    } finally {
      for (const master of masters) master.destroy();
      server.close();
    }
  });

  it("a masked path is not covered with the image's own /dev/null (CVE-2025-31133)", async () => {
    const [bundle, id] = await bundleOf('null', {
      mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
      linux: { maskedPaths: ['/etc/hidden'], readonlyPaths: [] },
      process: {
        args: ['/bin/sh', '-c', 'cat /etc/hidden; echo evil > /etc/hidden; stat -c %t:%T /etc/hidden'],
      },
    });
    const rootfs = join(bundle, 'rootfs');
    writeFileSync(join(rootfs, 'etc/hidden'), 'hidden');
    symlinkSync('/proc/sys/kernel/core_pattern', join(rootfs, 'dev/null'));
    const before = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
    const result = await wherry.run(['run', '-b', bundle, id]);
    assert.equal(result.stdout, '1:3\n', result.stderr);
    assert.equal(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'), before);
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
