/** `wherry launch` as an ordinary user: any command over a view of the host, or in a root filesystem of one's own. */
import assert from 'node:assert/strict';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { OrdinaryUser } from '../../support/ordinary-user.ts';
import { uniqueId, wherryBinary } from '../../support/paths.ts';
import { run } from '../../support/run.ts';
import { giveTo, writeSmallRoot } from '../oci-suite/host.ts';

for (const ranges of [[], ['800000:65536']]) {
  describe(`launch as an ordinary user, ${ranges.length === 0 ? 'one id' : 'a range of ids'}`, () => {
    let user: OrdinaryUser;
    before(async () => {
      user = await OrdinaryUser.make({ ranges, helpers: ranges.length > 0 });
    });
    after(async () => {
      await user?.[Symbol.asyncDispose]();
    });
    const launch = (...args: string[]) => user.wherry(['launch', '--name', uniqueId('user'), ...args]);
    const shell = (script: string, ...flags: string[]) => launch(...flags, '--', 'sh', '-c', script);

    it('ls, whoami, hostname, /bin/sh', async () => {
      const id = uniqueId('kontainer');
      const listed = await launch('--', 'ls', '/');
      assert.ok(listed.stdout.split('\n').includes('usr'), listed.stderr + user.log());
      assert.equal((await launch('--', 'whoami')).stdout, 'root\n');
      assert.equal((await user.wherry(['launch', '--name', id, '--', 'hostname'])).stdout, `${id}\n`);
      const result = await launch('--', '/bin/sh', '-c', 'id -u; exit 7');
      assert.deepEqual([result.code, result.stdout], [7, '0\n'], result.stderr);
    });

    it('ids, processes, network and names are its own', async () => {
      const { stdout, stderr } = await shell(
        'cat /proc/self/uid_map; echo $$; ls /sys/class/net; cat /sys/class/net/lo/flags',
      );
      const map = ['0', `${user.uid}`, '1', ...(ranges.length === 0 ? [] : ['1', '800000', '65536'])];
      assert.deepEqual(stdout.trim().split(/\s+/), [...map, '1', 'lo', '0x9'], stderr);
    });

    it("the host's network where it is asked for", async () => {
      const script = 'readlink /proc/self/ns/net; ls -d /sys/class/net/lo';
      const { stdout, stderr } = await shell(script, '--network', 'host');
      assert.deepEqual(
        stdout.trim().split(/\s+/),
        [readlinkSync('/proc/self/ns/net'), '/sys/class/net/lo'],
        stderr,
      );
    });

    it('what it writes is not on the host, also where the user could write', async () => {
      writeFileSync(join(user.home, 'mine'), 'before\n');
      chownSync(join(user.home, 'mine'), user.uid, user.uid);
      const [inTmp, atTop] = [`/tmp/${uniqueId('x')}`, `/${uniqueId('y')}`];
      const script = `cd ${user.home} && echo after > mine && cat mine; echo x > ${inTmp} && echo y > ${atTop} && cat ${inTmp} ${atTop}`;
      const result = await shell(script);
      assert.equal(result.stdout, 'after\nx\ny\n', result.stderr);
      assert.equal(readFileSync(join(user.home, 'mine'), 'utf8'), 'before\n');
      assert.ok(!existsSync(inTmp) && !existsSync(atTop));
    });

    it('what the user may not read or change stays so', async () => {
      const result = await shell(
        'cat /etc/shadow; touch /usr/bin/env; ls /proc/1/root/etc >/dev/null && echo ok',
      );
      assert.match(result.stderr, /shadow: Permission denied[\s\S]*bin.env['’]?: Permission denied/);
      assert.equal(result.stdout, 'ok\n');
    });

    it('a root filesystem of its own', async () => {
      const rootfs = join(user.home, 'rootfs');
      await writeSmallRoot(rootfs, join(user.folder, 'store'));
      giveTo(rootfs, user.uid);
      const result = await shell('ls /; echo x > /made', '--rootfs', rootfs);
      assert.match(result.stdout, /\bprobe\b/, result.stderr);
      assert.equal(statSync(join(rootfs, 'made')).uid, user.uid);
    });

    it('nothing stays', async () => {
      assert.equal((await user.must(['list', '-q'])).trim(), '');
      assert.equal((await run('find', [join(user.runDir, 'launch'), '-mindepth', '1'])).stdout, '');
    });
  });
}

describe('the run folder of an ordinary user without XDG_RUNTIME_DIR', () => {
  /** Of nobody, so that /run/user has no folder either. */
  const uid = 40_000 + (process.pid % 9_000);
  const folder = `/tmp/wherry-${uid}`;
  const wherry = (...args: string[]) => {
    const as = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--', wherryBinary];
    return run('setpriv', [...as, ...args], { env: { PATH: '/usr/bin:/bin' } });
  };
  after(async () => {
    if (existsSync(join(folder, 'keel.sock'))) await wherry('daemon', 'stop', '--force');
    rmSync(folder, { recursive: true, force: true });
  });

  it("another user's folder, a link and one that others can read are refused", async () => {
    const refused = /XDG_RUNTIME_DIR is not set, and this folder is not yours alone/;
    mkdirSync(folder, { mode: 0o700 });
    assert.match((await wherry('list')).stderr, refused);
    chownSync(folder, uid, uid);
    await run('chmod', ['755', folder]);
    assert.match((await wherry('list')).stderr, refused);
    rmSync(folder, { recursive: true });
    symlinkSync('/root', folder);
    assert.match((await wherry('list')).stderr, refused);
    assert.ok(lstatSync(folder).isSymbolicLink());
    rmSync(folder);
  });

  it('is made in /tmp, for the user alone', async () => {
    const result = await wherry('launch', '--', 'echo', 'fine');
    assert.equal(result.stdout, 'fine\n', result.stderr);
    const { uid: owner, mode } = lstatSync(folder);
    assert.deepEqual([owner, mode & 0o7777], [uid, 0o700]);
  });
});
