/** The mounts of a root filesystem that Create brings along, beyond a plain overlay: below the root, loop devices, mapped ids, many layers. */
import assert from 'node:assert/strict';
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeSmallRoot } from '../integration/oci-suite/host.ts';
import { buf } from '../support/buf.ts';
import { makeBundle } from '../support/bundle.ts';
import { mounts } from '../support/cgroups.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually, must, run } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

interface RootMount {
  type: string;
  source: string;
  target?: string;
  options: string[];
}

const tasks = 'containerd.task.v3.Task';

describe('mounts of a root filesystem', () => {
  let wherry: Wherry;
  /** A whole root filesystem, as one layer. */
  let image: string;
  before(async () => {
    wherry = new Wherry();
    image = join(wherry.folder, 'image');
    mkdirSync(join(wherry.folder, 'store'));
    await writeSmallRoot(image, join(wherry.folder, 'store'));
    await wherry.must(['daemon', 'start']);
  });
  after(() => wherry?.[Symbol.asyncDispose]());

  const call = (method: string, request: object) =>
    run(
      buf,
      [
        ...['curl', '--protocol', 'grpc', '--http2-prior-knowledge'],
        ...['--unix-socket', join(wherry.runDir, 'grpc.sock'), '-d', JSON.stringify(request)],
        `http://localhost/${tasks}/${method}`,
      ],
      { cwd: '/' },
    );

  const folder = (name: string): string => {
    const path = join(wherry.folder, name);
    mkdirSync(path, { recursive: true });
    return path;
  };

  /** Create with these mounts, start, wait, delete; returns what the program wrote. Nothing stays mounted. */
  async function output(name: string, rootfs: RootMount[], script: string): Promise<string> {
    const id = uniqueId(name);
    const bundle = await makeBundle(wherry.folder, id, ['/bin/sh', '-c', script], (config) => {
      config.linux['cgroupsPath'] = `/${id}`;
      config.root.readonly = false;
    });
    rmSync(join(bundle, 'rootfs'), { recursive: true, force: true });
    const stdout = join(wherry.folder, `${id}.out`);
    const created = await call('Create', {
      id,
      bundle,
      rootfs,
      stdout: `file://${stdout}`,
      stderr: `file://${stdout}`,
    });
    assert.equal(created.code, 0, created.stderr);
    assert.equal((await call('Start', { id })).code, 0);
    assert.equal((await call('Wait', { id })).code, 0);
    const deleted = await call('Delete', { id });
    assert.equal(deleted.code, 0, deleted.stderr);
    const left = () => mounts().filter((path) => path.startsWith(bundle));
    await eventually('no mount is left', () => left().length === 0);
    return existsSync(stdout) ? readFileSync(stdout, 'utf8').trim() : '';
  }

  async function refused(name: string, rootfs: RootMount[], message: RegExp): Promise<void> {
    const id = uniqueId(name);
    const bundle = await makeBundle(wherry.folder, id, ['/bin/true']);
    rmSync(join(bundle, 'rootfs'), { recursive: true, force: true });
    const result = await call('Create', { id, bundle, rootfs });
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, message);
    assert.deepEqual(
      mounts().filter((path) => path.startsWith(bundle)),
      [],
    );
  }

  const root = (): RootMount => ({ type: 'bind', source: image, options: ['rbind', 'rw'] });

  test('below the root, through a link that leads out of it', async () => {
    const data = folder('data');
    writeFileSync(join(data, 'f'), 'below');
    const below = { type: 'bind', source: data, target: '/tmp', options: ['rbind', 'ro'] };
    assert.equal(
      await output('below', [root(), below], 'cat /tmp/f; touch /tmp/x 2>/dev/null || echo " read-only"'),
      'below read-only',
    );
    const single = { type: 'bind', source: join(data, 'f'), target: '/etc/group', options: ['bind'] };
    assert.equal(await output('file', [root(), single], 'cat /etc/group'), 'below');
    const link = join(image, 'out');
    await must('ln', ['-sfn', '/etc', link]);
    const through = { type: 'tmpfs', source: 'tmpfs', target: 'out', options: ['mode=700'] };
    assert.equal(await output('link', [root(), through], 'ls /etc | wc -l'), '0');
    assert.ok(existsSync('/etc/passwd'), "the host's own folder is as it was");
    rmSync(link);
  });

  test('below the root, where nothing is', () =>
    refused(
      'nowhere',
      [root(), { type: 'tmpfs', source: 'tmpfs', target: 'no/such', options: [] }],
      /no such file.*rootfs\[1\]/is,
    ));

  test('a filesystem in a file', async () => {
    const file = join(wherry.folder, 'disk');
    writeFileSync(file, '');
    truncateSync(file, 16 * 1024 * 1024);
    await must('mke2fs', ['-q', '-t', 'ext4', '-d', image, file]);
    const disk = { type: 'ext4', source: file, options: ['loop', 'ro'] };
    assert.equal(
      await output('loop', [disk], 'head -1 /etc/passwd; touch /x 2>/dev/null || echo read-only'),
      'root:x:0:0:root:/root:/bin/sh\nread-only',
    );
    // Mount namespaces of other tests may hold it for a while: whoever copies /tmp takes its mounts along.
    await eventually(
      'the device was given back',
      async () => (await run('losetup', ['-j', file])).stdout === '' || undefined,
    );
    await refused(
      'noloop',
      [{ ...disk, source: join(wherry.folder, 'none') }],
      /no such file.*rootfs\[0\]/is,
    );
  });

  test('mapped ids: a bind mount and an overlay', async () => {
    chownSync(join(image, 'etc/group'), 5, 6);
    const ids = ['uidmap=0:1000:10', 'gidmap=0:2000:10'];
    const show = 'stat -c "%u:%g" /etc/passwd /etc/group';
    const mapped = '1000:2000\n1005:2006';
    assert.equal(await output('idbind', [{ ...root(), options: ['rbind', 'rw', ...ids] }], show), mapped);
    const more = folder('more');
    writeFileSync(join(more, 'second'), 'layer');
    const options = [
      `lowerdir=${more}:${image}`,
      `upperdir=${folder('upper')}`,
      `workdir=${folder('work')}`,
      ...ids,
    ];
    const overlay = { type: 'overlay', source: 'overlay', options };
    assert.equal(
      await output('idoverlay', [overlay], `${show}; cat /second; touch /new; stat -c " %u" /new`),
      `${mapped}\nlayer 0`,
    );
    await refused('half', [{ ...root(), options: ['rbind', 'uidmap=0:1000:10'] }], /rootfs\[0\]\.options/);
    await refused('none', [{ ...root(), options: ['rbind', 'uidmap=a', 'gidmap=b'] }], /no mapping of ids/);
  });

  test('128 layers, of short and of long names', async () => {
    for (const name of ['s', 'l'.repeat(70)]) {
      const layers = Array.from({ length: 128 }, (_, index) => {
        const layer = folder(`layers/${name}${index}`);
        writeFileSync(join(layer, `f${index}`), '');
        return layer;
      });
      const options = [
        `lowerdir=${[...layers, image].join(':')}`,
        `upperdir=${folder(`upper-${name}`)}`,
        `workdir=${folder(`work-${name}`)}`,
      ];
      assert.ok(options.join(',').length > 4096);
      const overlay = { type: 'overlay', source: 'overlay', options };
      assert.equal(
        await output('layers', [overlay], 'ls / | grep -c "^f[0-9]"; head -1 /etc/passwd'),
        '128\nroot:x:0:0:root:/root:/bin/sh',
      );
    }
  });

  test('words of the mount manager', () =>
    refused('manager', [{ ...root(), options: ['rbind', 'X-containerd.mkdir=/x'] }], /X-containerd\.mkdir/));
});
