/** An ordinary user in a part of the cgroup hierarchy that is delegated: seen in a mount namespace that shows cgroup v2 alone. */
import assert from 'node:assert/strict';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, run } from '../../support/run.ts';
import { configOf } from '../oci-suite/cases.ts';
import { giveTo, writeSmallRoot } from '../oci-suite/host.ts';

const user = 4545;
const unified = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) =>
  existsSync(join(path, 'cgroup.controllers')),
);

describe('an ordinary user with delegated cgroups', {
  skip: unified === undefined && 'no cgroup2 is mounted',
}, () => {
  let folder: string;
  let id: string;
  let bundle: string;
  const part = join(unified ?? '', uniqueId('user'));
  before(async () => {
    folder = temporaryFolder();
    id = uniqueId('delegated');
    bundle = join(folder, 'home', id);
    for (const name of ['home', 'run', 'store']) mkdirSync(join(folder, name), { mode: 0o700 });
    await writeSmallRoot(join(bundle, 'rootfs'), join(folder, 'store'));
    const config = { linux: { cgroupsPath: null }, process: { args: ['/bin/sleep', '1000'] } };
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf({ config }, { id, bundle })));
    for (const name of ['', 'home', 'run']) chownSync(join(folder, name), user, user);
    giveTo(bundle, user);
    mkdirSync(join(part, 'shell'), { recursive: true });
    for (const name of ['', 'shell'])
      for (const file of ['.', 'cgroup.procs', 'cgroup.subtree_control'])
        chownSync(join(part, name, file), user, user);
  });
  after(async () => {
    await inside(`'${wherryBinary}' daemon stop --force`);
    await eventually('its processes are gone', () => {
      for (const name of ['shell', 'wherry']) if (existsSync(join(part, name))) rmdirSync(join(part, name));
      rmdirSync(part);
      return true;
    });
    rmSync(folder, { recursive: true, force: true });
  });

  /** One namespace for all, as another one would be another host for wherryd. */
  const inside = (script: string, place = 'shell') => {
    const hide = `for m in $(awk '$5 ~ "^/sys/fs/cgroup" && / - cgroup / {print $5}' /proc/self/mountinfo); do umount -l $m; done`;
    const as = `setpriv --reuid ${user} --regid ${user} --clear-groups`;
    const enter = place === '' ? '' : `echo $$ > '${part}/${place}/cgroup.procs';`;
    return run(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        `${hide}; ${enter} exec ${as} sh -c "$1"`,
        'sh',
        script,
      ],
      { env: { PATH: '/usr/bin:/bin', XDG_RUNTIME_DIR: join(folder, 'run') }, timeout: 60_000 },
    );
  };

  it('a cgroup of its own, in which it is born; pause, ps, exec, delete', async () => {
    const w = `'${wherryBinary}'`;
    const script = [
      'set -e',
      `${w} create -b ${bundle} ${id} > ${folder}/run/out 2>&1`,
      `${w} start ${id}`,
      `echo "cgroup $(tail -n 1 /proc/$(${w} state ${id} | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')/cgroup)"`,
      `${w} exec ${id} /bin/grep ^0: /proc/self/cgroup`,
      `${w} pause ${id}`,
      `${w} state ${id} | grep status`,
      `${w} resume ${id}`,
      `echo "pids $(${w} ps --format json ${id})"`,
      `${w} delete --force ${id}`,
      `${w} daemon stop`,
    ].join('\n');
    const result = await inside(script);
    const log = join(folder, 'run/out');
    const seen = `${result.stdout}${result.stderr}${existsSync(log) ? readFileSync(log, 'utf8') : ''}`;
    const path = part.slice((unified ?? '').length);
    assert.match(result.stdout, new RegExp(`^cgroup 0::${path}/wherry/${id}\n`), seen);
    assert.match(result.stdout, /"status": "paused"/, seen);
    assert.match(result.stdout, /pids \[\d+\]/, seen);
    assert.equal(result.code, 0, seen);
    assert.ok(!existsSync(join(part, 'wherry', id)));
  });

  it('elsewhere there is none, and what needs one says so', async () => {
    const result = await inside(
      `'${wherryBinary}' launch -- echo fine; '${wherryBinary}' launch --memory 64m -- true; '${wherryBinary}' daemon stop`,
      '',
    );
    assert.equal(result.stdout, 'fine\n', result.stderr);
    assert.match(
      result.stderr,
      /wherryd's cgroup is in no part of the hierarchy that is delegated to this user/,
    );
    assert.deepEqual(
      readdirSync(part).filter((name) => name === 'wherry' && readdirSync(join(part, name)).includes(id)),
      [],
    );
  });
});
