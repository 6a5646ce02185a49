/** Attacks that other runtimes have met, played against a container's process: each test names the weakness and its CVE. */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import type { RunResult } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

describe('a hostile image or configuration', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry[Symbol.asyncDispose]());

  const bundleOf = (name: string, args: readonly string[], edit?: (config: SpecConfig) => void) =>
    makeBundle(wherry.folder, uniqueId(name), args, edit);

  async function runBundle(bundle: string): Promise<RunResult> {
    return wherry.run(['run', '-b', bundle, uniqueId('run')]);
  }

  async function created(bundle: string): Promise<{ id: string; pid: number }> {
    const id = uniqueId('created');
    const outputFile = join(wherry.folder, `${id}.out`);
    assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile })).code, 0);
    const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
    return { id, pid };
  }

  test('cannot overwrite the program that sets containers up (CVE-2019-5736)', async () => {
    const { id, pid } = await created(await bundleOf('exe', ['/bin/sleep', '100']));
    assert.throws(() => openSync(`/proc/${pid}/exe`, 'r+'), { code: 'ETXTBSY' });
    // The trick: hold it open for reading, wait until nothing runs it any more, open it again for writing.
    const held = openSync(`/proc/${pid}/exe`, constants.O_RDONLY);
    try {
      await wherry.must(['start', id]);
      const attempt = (act: (file: number) => void): string => {
        try {
          const file = openSync(`/proc/self/fd/${held}`, constants.O_RDWR);
          try {
            act(file);
          } finally {
            closeSync(file);
          }
          return 'succeeded';
        } catch (error) {
          return String((error as NodeJS.ErrnoException).code);
        }
      };
      const refused = ['EPERM', 'ETXTBSY', 'EACCES'];
      assert.ok(refused.includes(attempt((file) => writeSync(file, '#!/bin/evil\n'))));
      assert.ok(refused.includes(attempt((file) => ftruncateSync(file, 0))));
    } finally {
      closeSync(held);
    }
    await wherry.must(['delete', '--force', id]);
    assert.equal((await runBundle(await bundleOf('after', ['/bin/echo', 'fine']))).stdout, 'fine\n');
  });

  test('cannot make the runtime its interpreter (CVE-2019-5736)', async () => {
    const bundle = await bundleOf('interpreter', ['/bin/evil']);
    writeFileSync(join(bundle, 'rootfs/bin/evil'), '#!/proc/self/exe\n', { mode: 0o755 });
    const result = await runBundle(bundle);
    assert.notEqual(result.code, 0);
    assert.equal((await runBundle(await bundleOf('after', ['/bin/echo', 'fine']))).stdout, 'fine\n');
  });

  test('cannot look into the init while the set-up still holds host descriptors (CVE-2016-9962)', async () => {
    const first = await created(await bundleOf('victim', ['/bin/sleep', '100']));
    const spy = await bundleOf(
      'spy',
      [
        '/bin/sh',
        '-c',
        'for name in fd environ mem maps cwd root exe; do ls -l /proc/1/$name/ 2>&1; cat /proc/1/$name 2>&1; done',
      ],
      (config) => {
        config.linux.namespaces = config.linux.namespaces.map((namespace) =>
          namespace.type === 'pid' ? { type: 'pid', path: `/proc/${first.pid}/ns/pid` } : namespace,
        );
      },
    );
    const { stdout } = await runBundle(spy);
    await wherry.must(['delete', '--force', first.id]);
    assert.match(stdout, /can't open '\/proc\/1\/environ': Permission denied/);
    assert.match(stdout, /can't open '\/proc\/1\/mem': Permission denied/);
    assert.match(stdout, /\/proc\/1\/fd\/0: cannot read link: Permission denied/);
    assert.doesNotMatch(stdout, /socket:|pipe:|memfd:|wherry/);
  });

  test('finds no descriptor of the host, neither in its table nor as its folder (CVE-2024-21626)', async () => {
    const listed = await runBundle(await bundleOf('fds', ['/bin/ls', '/proc/self/fd']));
    assert.deepEqual(
      listed.stdout.trim().split(/\s+/),
      ['0', '1', '2', '3'],
      'the fourth is ls reading the folder',
    );
    for (let number = 3; number <= 20; number++) {
      const bundle = await bundleOf('cwd', ['/bin/ls'], (config) => {
        config.process.cwd = `/proc/self/fd/${number}`;
      });
      const result = await runBundle(bundle);
      assert.equal(result.code, 1, `descriptor ${number} was a folder: ${result.stdout}`);
      rmSync(bundle, { recursive: true });
    }
  });

  test('gets no inheritable capabilities that were not asked for (CVE-2022-29162)', async () => {
    const { stdout } = await runBundle(
      await bundleOf('inheritable', ['/bin/grep', 'CapInh', '/proc/self/status']),
    );
    assert.match(stdout, /^CapInh:\t0{16}\n$/);
  });

  test('cannot catch writes to procfs in a folder of its own (CVE-2019-16884, CVE-2025-52881)', async () => {
    const bundle = await bundleOf(
      'proc',
      ['/bin/cat', '/fake/sys/net/ipv4/ip_unprivileged_port_start'],
      (config) => {
        config.linux['sysctl'] = { 'net.ipv4.ip_unprivileged_port_start': '77' };
        config.process['oomScoreAdj'] = 500;
        config.linux['maskedPaths'] = [];
        config.linux['readonlyPaths'] = [];
      },
    );
    const root = join(bundle, 'rootfs');
    rmSync(join(root, 'proc'), { recursive: true });
    mkdirSync(join(root, 'fake/sys/net/ipv4'), { recursive: true });
    symlinkSync('/fake', join(root, 'proc'));
    const trap = join(root, 'fake/sys/net/ipv4/ip_unprivileged_port_start');
    writeFileSync(trap, 'trap');
    const result = await runBundle(bundle);
    assert.equal(readFileSync(trap, 'utf8'), 'trap');
    // Either the procfs is mounted where the link leads inside of the root, or the container is refused.
    if (result.code === 0) assert.equal(result.stdout, '77\n');
  });

  test('cannot take the host’s /dev/null by owning its streams', async () => {
    const before = statSync('/dev/null');
    const bundle = await bundleOf('streams', ['/bin/true'], (config) => {
      config.process['user'] = { uid: 1000, gid: 1000 };
    });
    const id = uniqueId('streams');
    // Its stdin is /dev/null.
    assert.equal((await wherry.run(['run', '-b', bundle, id])).code, 0);
    const now = statSync('/dev/null');
    assert.deepEqual([now.uid, now.gid, now.mode], [before.uid, before.gid, before.mode]);
  });

  test('sees no keys of whoever started it, nor of its neighbour', async () => {
    const keyrings = async (): Promise<{ id: string; lines: string[] }> => {
      const bundle = await bundleOf('keys', ['/bin/sleep', '100'], (config) => {
        config.linux['maskedPaths'] = [];
        config.process.args = ['/bin/grep', '_ses', '/proc/keys'];
      });
      const id = uniqueId('keys');
      const result = await wherry.run(['run', '-b', bundle, id]);
      return { id, lines: result.stdout.split('\n').filter((line) => line.includes(`_ses.${id}:`)) };
    };
    const one = await keyrings();
    const two = await keyrings();
    for (const { id, lines } of [one, two]) {
      // Searchable by its user, as runc makes it, so that an exec can join it by name.
      assert.match(lines[0] ?? '', / 3f1b0000 /, id);
      assert.equal(lines.length, 1);
    }
    assert.notEqual(one.lines[0]?.split(' ')[0], two.lines[0]?.split(' ')[0]);
  });
});
