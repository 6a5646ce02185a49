/** Compiled filters on disk: used again by whoever comes later, never believed when anything about them is not as it was written. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import { currentArch } from '../../../src/linux/arch.ts';
import type * as Seccomp from '../../../src/linux/seccomp.ts';
import { FilterStore } from '../../../src/linux/seccomp-store.ts';
import { dockerSeccomp } from '../../../src/oci/docker-profile.ts';
import { dockerCapabilities } from '../../../src/oci/launch.ts';
import { makeBundle } from '../../support/bundle.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';

let instances = 0;

/** The module with a memory of its own, as a later wherryd has it. */
async function laterProcess(folder: string, build = 'test'): Promise<typeof Seccomp> {
  const url = new URL(`../../../src/linux/seccomp.ts?${instances++}`, import.meta.url);
  const module = (await import(url.href)) as typeof Seccomp;
  module.keepFilters(folder, build);
  return module;
}

const profile = (errnoRet = 5): Seccomp.SeccompProfile => ({
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: [
    { names: ['getpid'], action: 'SCMP_ACT_ERRNO', errnoRet },
    { names: ['no_such_call'], action: 'SCMP_ACT_ERRNO', errnoRet },
  ],
});

describe('filters on disk', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'wherry-test-filters-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** A folder with the filter of `profile()`, the name of its file and its content. */
  async function kept(name: string): Promise<{ cache: string; path: string; bytes: Buffer }> {
    const cache = join(folder, name);
    await (await laterProcess(cache)).compileSeccomp(profile());
    const [file] = await eventually('the filter is kept', () => {
      const files = readdirSync(cache).filter((one) => one.endsWith('.bpf'));
      return files.length > 0 ? files : undefined;
    });
    const path = join(cache, file ?? '');
    return { cache, path, bytes: readFileSync(path) };
  }

  /** What a later process takes for this profile: the planted filter has a mark. */
  const planted = { filter: Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f), flags: 0, skipped: ['planted'] };
  const keyOf = (path: string): string => /([0-9a-f]{64})\.bpf$/.exec(path)?.[1] ?? '';

  it('belong to us alone and are used by a later process', async () => {
    const { cache, path, bytes } = await kept('used');
    assert.equal(statSync(cache).mode & 0o777, 0o700);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const read = await (await laterProcess(cache)).compileSeccomp(profile());
    assert.deepEqual(Buffer.from(read.filter), bytes.subarray(bytes.length - read.filter.length));
    assert.deepEqual([read.flags, read.skipped], [4, ['no_such_call']]);
    // And not made anew: what lies there is what comes out.
    await new FilterStore(cache).save(keyOf(path), planted);
    assert.deepEqual(await (await laterProcess(cache)).compileSeccomp(profile()), planted);
  });

  it('are another for another errno, and for another build', async () => {
    const { cache } = await kept('others');
    await (await laterProcess(cache)).compileSeccomp(profile(6));
    await (await laterProcess(cache, 'newer')).compileSeccomp(profile());
    await eventually('three files', () => readdirSync(cache).length === 3 || undefined);
  });

  const damages: [name: string, damage: (path: string, bytes: Buffer, aside: string) => void][] = [
    ['shorter', (path, bytes) => truncateSync(path, bytes.length - 8)],
    ['empty', (path) => truncateSync(path, 0)],
    ['longer', (path, bytes) => writeFileSync(path, Buffer.concat([bytes, bytes.subarray(-8)]))],
    [
      'changed in one bit of its program',
      (path, bytes) => {
        const copy = Buffer.from(bytes);
        copy[bytes.length - 3] = (copy[bytes.length - 3] ?? 0) ^ 1;
        writeFileSync(path, copy);
      },
    ],
    [
      'changed in its flags',
      (path, bytes) => {
        const copy = Buffer.from(bytes);
        copy[40] = (copy[40] ?? 0) ^ 2;
        writeFileSync(path, copy);
      },
    ],
    ["readable by others, and so perhaps another's", (path) => chmodSync(path, 0o644)],
    [
      'a link to another file',
      (path, _bytes, aside) => {
        renameSync(path, aside);
        symlinkSync(aside, path);
      },
    ],
  ];
  for (const [name, damage] of damages) {
    it(`that are ${name} are not believed, and are replaced`, async () => {
      const { cache, path, bytes } = await kept(name.replaceAll(/\W/g, '-'));
      await new FilterStore(cache).save(keyOf(path), planted);
      damage(path, readFileSync(path), join(folder, 'aside'));
      const made = await (await laterProcess(cache)).compileSeccomp(profile());
      assert.deepEqual(made.skipped, ['no_such_call']);
      await eventually(
        'it is replaced',
        () => (statSync(path).isFile() && readFileSync(path).equals(bytes)) || undefined,
      );
      assert.deepEqual(
        readdirSync(cache).filter((file) => !file.endsWith('.bpf')),
        [],
      );
    });
  }

  it('of another profile under this name are not believed', async () => {
    const { cache, path } = await kept('swapped');
    const other = await kept('swapped-other');
    await new FilterStore(other.cache).save('0'.repeat(64), planted);
    copyFileSync(join(other.cache, `${'0'.repeat(64)}.bpf`), path);
    const made = await (await laterProcess(cache)).compileSeccomp(profile());
    assert.deepEqual(made.skipped, ['no_such_call']);
  });

  it('do not grow without an end', async () => {
    const cache = join(folder, 'many');
    const store = new FilterStore(cache);
    for (let n = 0; n < 140; n++) await store.save(n.toString(16).padStart(64, '0'), planted);
    assert.equal(readdirSync(cache).length, 128);
    assert.ok(readdirSync(cache).includes(`${(139).toString(16).padStart(64, '0')}.bpf`));
  });

  it('a folder that cannot be written costs nothing but the time', async () => {
    const { compileSeccomp } = await laterProcess('/proc/no/such/folder');
    assert.deepEqual((await compileSeccomp(profile())).skipped, ['no_such_call']);
  });
});

it('the making of a large filter lets other work of the process run', async () => {
  const { compileSeccomp } = await laterProcess('/proc/no/such/folder');
  let turns = 0;
  const count = setInterval(() => turns++, 0);
  const immediate = (): void => {
    turns++;
    if (running) setImmediate(immediate);
  };
  let running = true;
  setImmediate(immediate);
  await compileSeccomp(dockerSeccomp(dockerCapabilities, currentArch()));
  running = false;
  clearInterval(count);
  assert.ok(turns > 5, `the event loop turned ${turns} times`);
});

describe('wherryd and its filters', () => {
  let wherry: Wherry;
  before(() => {
    wherry = new Wherry();
  });
  after(() => wherry[Symbol.asyncDispose]());

  for (const [how, env, folder] of [
    ['a daemon', {}, 'seccomp'],
    ['no daemon', { WHERRY_DAEMON: '0' }, 'daemonless/seccomp'],
  ] as const) {
    test(`a damaged file harms no container: ${how}`, async () => {
      const script = 'mkdir /dev/shm/x; echo $?';
      const bundle = await makeBundle(
        wherry.folder,
        uniqueId('filter'),
        ['/bin/sh', '-c', script],
        (config) => {
          config.linux['seccomp'] = {
            defaultAction: 'SCMP_ACT_ALLOW',
            syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 17 }],
          };
        },
      );
      const runs = async (): Promise<void> => {
        const { stdout, stderr } = await wherry.run(['run', '-b', bundle, uniqueId('run')], {
          env: { ...wherry.env, ...env },
        });
        assert.match(stderr, /File exists/);
        assert.equal(stdout, '1\n');
      };
      await runs();
      const cache = join(wherry.runDir, folder);
      const files = await eventually('the filter is kept', () => {
        const found = readdirSync(cache).filter((name) => name.endsWith('.bpf'));
        return found.length > 0 ? found : undefined;
      });
      for (const name of files) truncateSync(join(cache, name), 50);
      if (how === 'a daemon') {
        process.kill((await wherry.daemon()).wherryd, 'SIGKILL');
      }
      await runs();
    });
  }
});
