/** An ordinary user with ranges of subordinate ids: mapped by newuidmap and newgidmap, by itself or as config.json says. */
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, chownSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { OrdinaryUser } from '../../support/ordinary-user.ts';
import { uniqueId } from '../../support/paths.ts';
import { must } from '../../support/run.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { giveTo, writeSmallRoot } from '../oci-suite/host.ts';

const first = 700_000;
const namespaces = ['user', 'mount', 'uts', 'pid', 'ipc', 'network'].map((type) => ({ type }));
const mapped = (uids: number[][], gids = uids): JsonObject => {
  const list = (mappings: number[][]) =>
    mappings.map(([containerID = 0, hostID = 0, size = 0]) => ({ containerID, hostID, size }));
  return { linux: { cgroupsPath: null, namespaces, uidMappings: list(uids), gidMappings: list(gids) } };
};

async function bundleOf(user: OrdinaryUser, name: string, config: JsonObject): Promise<[string, string]> {
  const id = uniqueId(name);
  const bundle = join(user.home, id);
  await writeSmallRoot(join(bundle, 'rootfs'), join(user.folder, 'store'));
  const whole = configOf({ config: { linux: { cgroupsPath: null }, ...config } }, { id, bundle });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(whole));
  giveTo(bundle, user.uid);
  return [bundle, id];
}

const shell = (script: string): JsonObject => ({ args: ['/bin/sh', '-c', script] });
const SHOW = 'cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups';
const words = (text: string): string[] => text.trim().split(/\s+/);

describe('an ordinary user with subordinate ids', () => {
  let user: OrdinaryUser;
  before(async () => {
    user = await OrdinaryUser.make({ ranges: [`${first}:65536`, '900000:1000'], helpers: true });
  });
  after(async () => {
    await user?.[Symbol.asyncDispose]();
  });
  const runs = async (config: JsonObject) => {
    const [bundle, id] = await bundleOf(user, 'ids', config);
    return { bundle, id, ...(await user.wherry(['run', '-b', bundle, id])) };
  };

  it('by itself: root is the user, then all ranges; groups can be set', async () => {
    const result = await runs({ process: shell(SHOW) });
    const map = ['0', `${user.uid}`, '1', '1', `${first}`, '65536', '65537', '900000', '1000'];
    assert.deepEqual(words(result.stdout), [...map, ...map, 'allow'], result.stderr + user.log());
  });

  it('other users and groups inside; their files have ids of the range', async () => {
    const result = await runs({
      process: {
        ...shell('id -u; id -g; id -G; echo x > /tmp/made; stat -c %u:%g /tmp/made'),
        user: { uid: 1000, gid: 100, additionalGids: [5, 27] },
      },
    });
    assert.deepEqual(words(result.stdout), ['1000', '100', '100', '5', '27', '1000:100'], result.stderr);
    const { uid, gid } = statSync(join(result.bundle, 'rootfs/tmp/made'));
    assert.deepEqual([uid, gid], [first + 999, first + 99]);
  });

  it("a terminal's group: devpts with gid=5 as engines write it", async () => {
    const options = ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'];
    const result = await runs({
      process: shell('grep " /dev/pts " /proc/self/mounts'),
      'mounts+': [{ destination: '/dev/pts', type: 'devpts', source: 'devpts', options }],
    });
    assert.match(result.stdout, new RegExp(`gid=${first + 4}`), result.stderr);
  });

  it('as config.json maps: the user as 1000, root a subordinate id', async () => {
    const [bundle, id] = await bundleOf(user, 'keep', {
      process: { ...shell(`${SHOW}; id -u; echo x > /tmp/made`), user: { uid: 1000, gid: 1000 } },
      ...mapped([
        [0, first, 1000],
        [1000, user.uid, 1],
      ]),
    });
    const result = await user.wherry(['run', '-b', bundle, id]);
    const map = ['0', `${first}`, '1000', '1000', `${user.uid}`, '1'];
    assert.deepEqual(words(result.stdout), [...map, ...map, 'allow', '1000'], result.stderr);
    assert.equal(statSync(join(bundle, 'rootfs/tmp/made')).uid, user.uid);
  });

  it('a root that is not the user: paths are opened with the rights of the user', async () => {
    const [bundle, id] = await bundleOf(user, 'far', {
      process: shell('id -u; cat /data/file; touch /tmp/made'),
      'mounts+': [{ destination: '/data', type: 'bind', source: 'data', options: ['rbind', 'ro'] }],
      ...mapped([[0, first, 65_536]]),
    });
    await must('mkdir', [join(bundle, 'data')]);
    writeFileSync(join(bundle, 'data/file'), 'seen\n');
    giveTo(join(bundle, 'rootfs'), first);
    chownSync(join(bundle, 'rootfs'), first, first);
    // The container's root itself has no way in.
    chmodSync(user.home, 0o700);
    try {
      const result = await user.wherry(['run', '-b', bundle, id]);
      assert.deepEqual([result.code, result.stdout], [0, '0\nseen\n'], result.stderr);
      assert.equal(statSync(join(bundle, 'rootfs/tmp/made')).uid, first);
    } finally {
      chmodSync(user.home, 0o755);
    }
  });

  it('exec, kill and delete of a container whose ids are all subordinate', async () => {
    const [bundle, id] = await bundleOf(user, 'life', {
      process: { args: ['/bin/sleep', '1000'] },
      ...mapped([[0, first, 65_536]]),
    });
    giveTo(join(bundle, 'rootfs'), first);
    const created = await user.wherry(['create', '-b', bundle, id], { outputFile: join(user.folder, 'out') });
    assert.equal(created.code, 0, user.log());
    await user.must(['start', id]);
    assert.equal(await user.must(['exec', '-u', '7:8', id, '/bin/sh', '-c', 'id -u; id -g']), '7\n8\n');
    const { pid } = JSON.parse(await user.must(['state', id])) as { pid: number };
    assert.equal(statSync(`/proc/${pid}`).uid, first);
    await user.must(['delete', '--force', id]);
  });

  it('one id each is written by the kernel, and setgroups is given up', async () => {
    const result = await runs({ process: shell(SHOW), ...mapped([[0, user.uid, 1]]) });
    const map = ['0', `${user.uid}`, '1'];
    assert.deepEqual(words(result.stdout), [...map, ...map, 'deny'], result.stderr);
  });

  const refused: [string, JsonObject, RegExp][] = [
    [
      'a range that goes beyond the own one',
      mapped([[0, first, 65_537]]),
      /linux\.uidMappings\[0\]: ids 700000-765536 of the host are not yours to map: \/etc\/subuid gives sailor 700000-765535, 900000-900999/,
    ],
    [
      "root's id",
      mapped(
        [
          [0, 4242, 1],
          [1, first, 10],
        ],
        [[0, 0, 1]],
      ),
      /linux\.gidMappings\[0\]: id 0 of the host is not yours to map/,
    ],
    [
      'a user that is not mapped',
      { ...mapped([[0, first, 10]]), process: { ...shell('id'), user: { uid: 10, gid: 0 } } },
      /process\.user\.uid: id 10 of the container is mapped to no id of the host/,
    ],
  ];
  for (const [what, config, text] of refused) {
    it(`refused: ${what}`, async () => {
      const result = await runs(config);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, text);
      assert.match((await user.wherry(['state', result.id])).stderr, /does not exist/);
    });
  }

  it('what a helper says when it refuses is told', async () => {
    // Granted after wherryd has looked would be a race; a helper that cannot gain the right to it is the same to us.
    const helper = join(user.folder, 'bin/newuidmap');
    const { mode } = statSync(helper);
    chmodSync(helper, 0o755);
    try {
      const [bundle, id] = await bundleOf(user, 'helper', { process: shell('id') });
      const result = await user.wherry(['run', '-b', bundle, id]);
      assert.match(result.stderr, /linux\.uidMappings: newuidmap: .*Operation not permitted/);
      assert.match((await user.wherry(['state', id])).stderr, /does not exist/);
    } finally {
      chmodSync(helper, mode);
    }
  });

  it('without the helpers: one id by itself, and ranges are refused with the package that is missing', async () => {
    for (const name of ['newuidmap', 'newgidmap']) rmSync(join(user.folder, 'bin', name));
    const alone = await runs({ process: shell(SHOW) });
    const map = ['0', `${user.uid}`, '1'];
    assert.deepEqual(words(alone.stdout), [...map, ...map, 'deny'], alone.stderr);
    const result = await runs(mapped([[0, first, 100]]));
    assert.match(result.stderr, /linux\.uidMappings: newuidmap is not installed/);
    assert.match(result.stderr, /package uidmap/);
  });

  it('lines of other users and lines that are none do not count', async () => {
    appendFileSync(join(user.folder, 'etc/subuid'), 'other:1000000:65536\nsailor:x:1\n');
    const result = await runs(mapped([[0, 1_000_000, 100]]));
    assert.match(result.stderr, /not yours to map/);
  });
});
