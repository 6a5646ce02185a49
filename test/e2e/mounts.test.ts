/** `mounts add` and `mounts remove` on a running container, from the command line and over gRPC. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type SpecConfig } from '../support/bundle.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

const mapped = [{ containerID: 0, hostID: 200_000, size: 65_536 }];

for (const mode of ['wherryd', 'alone'] as const) {
  describe(`mounts of a running container (${mode})`, () => {
    let wherry: Wherry;
    let data: string;
    before(() => {
      wherry = new Wherry(mode === 'alone' ? { WHERRY_DAEMON: '0' } : {});
      data = join(wherry.folder, 'data');
      mkdirSync(data);
      writeFileSync(join(data, 'file'), 'of the host\n');
    });
    after(async () => wherry?.[Symbol.asyncDispose]());

    const started = async (edit: (config: SpecConfig) => void = () => {}): Promise<string> => {
      const id = uniqueId('mounts');
      const bundle = await makeBundle(wherry.folder, id, ['/bin/sleep', '1000'], (config) => {
        config.root.readonly = false;
        config.linux['cgroupsPath'] = `/${id}`;
        edit(config);
      });
      const out = join(bundle, 'out');
      const { code } = await wherry.run(['run', '-d', '-b', bundle, id], { outputFile: out });
      assert.equal(code, 0, readFileSync(out, 'utf8'));
      return id;
    };
    const inside = (id: string, script: string) => wherry.run(['exec', id, '/bin/sh', '-c', script]);
    const fails = async (expected: RegExp, ...args: string[]) => {
      const { code, stderr } = await wherry.run(['mounts', ...args]);
      assert.notEqual(code, 0);
      assert.match(stderr, expected);
    };
    const mountsOf = async (id: string) => (await inside(id, 'cat /proc/self/mountinfo')).stdout;

    test("crun's list: folders, a file, a tmpfs; places are made; and all is taken away again", async () => {
      const id = await started();
      const before = await mountsOf(id);
      const list = join(wherry.folder, `${id}.json`);
      writeFileSync(
        list,
        JSON.stringify([
          { destination: '/new/data', type: 'bind', source: data, options: ['rbind', 'ro'] },
          { destination: '/etc/one', type: 'bind', source: join(data, 'file'), options: ['bind'] },
          { destination: '/scratch', type: 'tmpfs', source: 'tmpfs', options: ['size=64k', 'noexec'] },
        ]),
      );
      await wherry.must(['mounts', 'add', id, list]);
      assert.equal((await inside(id, 'cat /new/data/file /etc/one')).stdout, 'of the host\nof the host\n');
      assert.match((await inside(id, 'touch /new/data/x')).stderr, /Read-only/);
      assert.equal((await inside(id, 'echo a > /scratch/a && cat /scratch/a')).stdout, 'a\n');
      assert.match(await mountsOf(id), / \/scratch rw,noexec.*size=64k/);
      await fails(/\/new\/data has been added already/, 'add', id, list);
      await wherry.must(['mounts', 'remove', id, list]);
      assert.equal(await mountsOf(id), before);
      await fails(/\/new\/data is not a mount made by/, 'remove', id, list);
      await wherry.must(['delete', '-f', id]);
    });

    test('in a user namespace they belong to its root', async () => {
      const id = await started((config) => {
        config.linux.namespaces.push({ type: 'user' });
        Object.assign(config.linux, { uidMappings: mapped, gidMappings: mapped });
      });
      const flags = ['--mount', 'type=tmpfs,dst=/dev/scratch', '-v', `${data}:/dev/seen:ro`];
      await wherry.must(['mounts', 'add', ...flags, id]);
      assert.equal(
        (await inside(id, 'stat -c %u /dev/scratch; cat /dev/seen/file')).stdout,
        '0\nof the host\n',
      );
      assert.match((await inside(id, 'touch /dev/seen/x')).stderr, /Read-only/);
      await wherry.must(['mounts', 'remove', '--target', '/dev/scratch', '--target', '/dev/seen', id]);
      assert.doesNotMatch(await mountsOf(id), /scratch|seen/);
      await wherry.must(['delete', '-f', id]);
    });

    // The rest is the same tape.
    if (mode === 'alone') return;

    test('all or none, and what is wrong is named', async () => {
      const id = await started();
      const before = await mountsOf(id);
      const two = ['--mount', `src=${data},dst=/one,ro`, '--mount', `src=${data}/file,dst=/one/two/three`];
      await fails(/mount \/one\/two\/three: read-only/i, 'add', ...two, id);
      assert.equal(await mountsOf(id), before);
      await fails(/\/one is not a mount made by/, 'remove', '--target', '/one', id);
      await fails(/bind \/nowhere\/x to \/x: no such file/i, 'add', '--mount', 'src=/nowhere/x,dst=/x', id);
      await fails(/destination: nothing is mounted over the root/, 'add', '--mount', `src=${data},dst=/`, id);
      await fails(/inside procfs/, 'add', '--mount', `src=${data},dst=/proc/sys`, id);
      await fails(/bind and tmpfs mounts only, not "proc"/, 'add', '--mount', 'type=proc,dst=/proc', id);
      await fails(/dst is missing/, 'add', '--mount', `src=${data}`, id);
      await fails(/no mount is named/, 'add', id);
      await fails(/is not a mount made by/, 'remove', '--target', '/proc', id);
      await fails(/container does not exist/, 'add', '-v', `${data}:/x`, 'nobody');
      await fails(/container does not exist/, 'remove', '--target', '/x', 'nobody');
      const list = join(wherry.folder, 'wrong.json');
      writeFileSync(list, '[{"destination": 7}]');
      await fails(/wrong\.json: mounts\[0\]\.destination/, 'add', id, list);
      assert.equal(await mountsOf(id), before);
      await wherry.must(['kill', id, 'KILL']);
      await eventually(
        'the end',
        async () => /"stopped"/.test(await wherry.must(['state', id])) || undefined,
      );
      await fails(/container not running/, 'add', '-v', `${data}:/x`, id);
      await fails(/container not running/, 'remove', '--target', '/x', id);
      await wherry.must(['delete', id]);
    });

    test('a link inside leads nowhere else', async () => {
      const id = await started();
      await inside(id, 'ln -s /../../../../tmp /way');
      await wherry.must(['mounts', 'add', '--mount', `src=${data},dst=/way/here`, id]);
      assert.equal((await inside(id, 'cat /tmp/here/file')).stdout, 'of the host\n');
      await wherry.must(['mounts', 'remove', '--target', '/way/here', id]);
      assert.doesNotMatch(await mountsOf(id), /\/tmp\/here/);
      await wherry.must(['delete', '-f', id]);
    });

    test('something that was mounted over it stays, and the next wherryd still knows the mounts', async () => {
      const id = await started();
      const add = (inside: string) => wherry.must(['mounts', 'add', '-v', `${data}:${inside}`, id]);
      await add('/under');
      await add('/under/../left');
      process.kill((await wherry.daemon()).wherryd, 'SIGKILL');
      await fails(/has been added already/, 'add', '-v', `${data}:/left`, id);
      const { pid } = JSON.parse(await wherry.must(['state', id])) as { pid: number };
      assert.ok(statSync(`/proc/${pid}/root/left/file`).isFile());
      await wherry.must(['mounts', 'remove', '--target', '/left', id]);
      assert.doesNotMatch(await mountsOf(id), / \/left /);
      const over = await wherry.run([
        'exec',
        '-c',
        'CAP_SYS_ADMIN',
        id,
        '/bin/mount',
        '-t',
        'tmpfs',
        'x',
        '/under',
      ]);
      assert.equal(over.code, 0, over.stderr);
      await fails(/unmount \/under: device or resource busy/i, 'remove', '--target', '/under', id);
      assert.match(await mountsOf(id), /tmpfs x /);
      await wherry.must(['delete', '-f', id]);
    });
  });
}
