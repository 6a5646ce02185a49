/** An ordinary user's whole life with containers: every command, hooks, filters, terminals, the death of wherryd, and who may not look in. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { OrdinaryUser } from '../../support/ordinary-user.ts';
import { uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, follow, type RunResult, run, stop } from '../../support/run.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { compileProgram, giveTo, writeSmallRoot } from '../oci-suite/host.ts';

/** What needs a cgroup is told apart: here the user has none (cgroup v1). */
const NO_CGROUP = /an ordinary user has no cgroups where the host has cgroup v1/;

describe("an ordinary user's commands", () => {
  let user: OrdinaryUser;
  let id: string;
  before(async () => {
    user = await OrdinaryUser.make({ uid: 4343, ranges: ['1100000:65536'], helpers: true });
    id = await create('life', { process: { args: ['/bin/sleep', '1000'] } });
    await user.must(['start', id]);
  });
  after(async () => {
    await user?.[Symbol.asyncDispose]();
  });

  const bundleOf = async (name: string, config: JsonObject): Promise<[bundle: string, id: string]> => {
    const made = uniqueId(name);
    const bundle = join(user.home, made);
    await writeSmallRoot(join(bundle, 'rootfs'), join(user.folder, 'store'));
    const whole = configOf({ config: { linux: { cgroupsPath: null }, ...config } }, { id: made, bundle });
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(whole));
    giveTo(bundle, user.uid);
    return [bundle, made];
  };
  const create = async (name: string, config: JsonObject): Promise<string> => {
    const [bundle, made] = await bundleOf(name, config);
    const output = join(user.folder, `${name}.out`);
    const result = await user.wherry(['create', '-b', bundle, made], { outputFile: output });
    assert.equal(result.code, 0, `${readFileSync(output, 'utf8')}${user.log()}`);
    return made;
  };
  const state = async (name: string) =>
    JSON.parse(await user.must(['state', name])) as { status: string; pid: number; bundle: string };
  const ended = (name: string) =>
    eventually('its end', async () => (await state(name)).status === 'stopped' || undefined);
  const runs = async (name: string, config: JsonObject): Promise<RunResult> => {
    const [bundle, made] = await bundleOf(name, config);
    return user.wherry(['run', '-b', bundle, made]);
  };
  const shell = (script: string): JsonObject => ({ args: ['/bin/sh', '-c', script] });

  it('spec --rootless: a configuration that runs as it is', async () => {
    const [bundle, made] = await bundleOf('spec', {});
    const file = join(bundle, 'config.json');
    assert.equal((await user.as(['rm', file])).code, 0);
    await user.must(['spec', '--rootless', '-b', bundle]);
    const written = JSON.parse(readFileSync(file, 'utf8')) as {
      process: { terminal: boolean; args: string[] };
      linux: { uidMappings: unknown };
    };
    assert.deepEqual(written.linux.uidMappings, [{ containerID: 0, hostID: user.uid, size: 1 }]);
    written.process.terminal = false;
    written.process.args = ['/bin/sh', '-c', 'id -u; hostname'];
    writeFileSync(file, JSON.stringify(written));
    const result = await user.wherry(['run', '-b', bundle, made]);
    assert.match(result.stdout, /^0\n/, result.stderr);
  });

  it('list, state, ps, exec, features, explain', async () => {
    assert.match(await user.must(['list']), new RegExp(`^${id} +\\d+ +running .* sailor$`, 'm'));
    assert.equal((await state(id)).status, 'running');
    await user.must(['exec', '-d', id, '/bin/sleep', '999'], { outputFile: join(user.folder, 'exec.out') });
    const pids = JSON.parse(await user.must(['ps', '--format', 'json', id])) as number[];
    assert.equal(pids.length, 2);
    assert.ok(pids.includes((await state(id)).pid));
    assert.equal((await user.wherry(['exec', id, '/bin/sh', '-c', 'id -u; exit 9'])).code, 9);
    assert.match(await user.must(['features']), /"ociVersionMax"/);
    const { bundle } = await state(id);
    assert.match(await user.must(['explain', bundle]), /newuidmap PID 0 4343 1 1 1100000 65536/);
  });

  it('an exec right after the start waits for the program: until then the init lets nobody in', async () => {
    const [bundle, made] = await bundleOf('slow', { process: { args: ['/tmp/sleep', '1000'] } });
    const program = join(bundle, 'rootfs/tmp/sleep');
    copyFileSync(join(bundle, 'rootfs/bin/busybox'), program);
    const outputFile = join(user.folder, 'slow.out');
    assert.equal((await user.wherry(['create', '-b', bundle, made], { outputFile })).code, 0, user.log());
    const holder = spawn(await compileProgram(join(import.meta.dirname, 'lease.c')), [program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    try {
      const lease = follow(holder);
      await eventually('it is held', () => lease.text === 'held\n' || undefined);
      await user.must(['start', made]);
      const asked = user.wherry(['exec', made, '/bin/echo', 'in']);
      setTimeout(() => holder.stdin.end(), 500);
      assert.deepEqual(await asked, { code: 0, stdout: 'in\n', stderr: '' });
    } finally {
      await stop(holder, 0);
    }
    await user.must(['delete', '--force', made]);
  });

  const refused = [
    ['pause'],
    ['update', '--memory', '64m'],
    ['update', '--pids-limit', '5'],
    ['events', '--stats'],
  ];
  for (const words of refused) {
    it(`${words.join(' ')} is refused with the reason, as there is no cgroup`, async (t) => {
      if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return t.skip('this host has cgroup v2');
      const result = await user.wherry([...words, id]);
      assert.notEqual(result.code, 0);
      assert.match(result.stderr, NO_CGROUP);
      assert.equal((await state(id)).status, 'running');
    });
  }

  it('a limit or a cgroup in config.json is refused, rules for devices are not', async (t) => {
    if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return t.skip('this host has cgroup v2');
    const devices = await runs('devices', {
      linux: { cgroupsPath: null, resources: { devices: [{ allow: false, access: 'rwm' }] } },
      process: shell('echo fine'),
    });
    assert.equal(devices.stdout, 'fine\n', devices.stderr);
    const limit = await runs('limit', {
      linux: { cgroupsPath: null, resources: { memory: { limit: 64 << 20 } } },
    });
    assert.match(limit.stderr, /linux\.resources\.memory\.limit: an ordinary user has no cgroups/);
    const named = await runs('named', { linux: { cgroupsPath: '/mine' } });
    assert.match(named.stderr, /linux\.cgroupsPath: an ordinary user has no cgroups/);
    const systemd = await user.wherry([
      '--systemd-cgroup',
      'run',
      '-b',
      (await state(id)).bundle,
      uniqueId('sd'),
    ]);
    assert.match(systemd.stderr, /--systemd-cgroup: .*cgroup v/);
  });

  it('kill --all reaches every process although there is no cgroup', async () => {
    const made = await create('all', { process: shell('sleep 1000 & wait') });
    await user.must(['start', made]);
    const pids = async () => JSON.parse(await user.must(['ps', '--format', 'json', made])) as number[];
    await eventually('both processes', async () => (await pids()).length === 2 || undefined);
    await user.must(['kill', '--all', made, 'KILL']);
    await ended(made);
    await user.must(['delete', made]);
  });

  it('kill, delete; delete --force', async () => {
    const made = await create('end', { process: { args: ['/bin/sleep', '1000'] } });
    assert.equal((await state(made)).status, 'created');
    await user.must(['start', made]);
    await user.must(['kill', made, 'KILL']);
    await ended(made);
    await user.must(['delete', made]);
    const other = await create('force', { process: { args: ['/bin/sleep', '1000'] } });
    await user.must(['delete', '--force', other]);
    assert.match((await user.wherry(['state', other])).stderr, /does not exist/);
  });

  it('hooks run as the user, on the host and inside', async () => {
    const out = join(user.home, 'hooks');
    const hook = (name: string, inside = false) => ({
      path: '/bin/sh',
      args: ['sh', '-c', inside ? 'id -u > /tmp/inside' : `echo ${name} $(id -u) >> ${out}`],
      env: ['PATH=/usr/bin:/bin'],
    });
    const [bundle, made] = await bundleOf('hooks', {
      hooks: {
        createRuntime: [hook('createRuntime')],
        startContainer: [hook('startContainer', true)],
        poststart: [hook('poststart')],
        poststop: [hook('poststop')],
      },
      process: shell('cat /tmp/inside'),
    });
    const result = await user.wherry(['run', '-b', bundle, made]);
    assert.equal(result.stdout, '0\n', result.stderr);
    const lines = readFileSync(out, 'utf8').trim().split('\n');
    assert.deepEqual(
      lines,
      ['createRuntime', 'poststart', 'poststop'].map((name) => `${name} ${user.uid}`),
    );
  });

  it('seccomp, with and without no_new_privs', async () => {
    for (const noNewPrivileges of [true, false]) {
      const result = await runs('seccomp', {
        linux: {
          cgroupsPath: null,
          seccomp: {
            defaultAction: 'SCMP_ACT_ALLOW',
            syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 }],
          },
        },
        process: { ...shell('mkdir /tmp/x; grep Seccomp: /proc/self/status'), noNewPrivileges },
      });
      assert.match(result.stderr, /not supported/);
      assert.match(result.stdout, /Seccomp:\s+2/);
    }
  });

  it('a terminal', async () => {
    const [bundle, made] = await bundleOf('tty', {
      process: { ...shell('tty; stat -c %u:%g:%a $(tty); stty size 2>/dev/null'), terminal: true },
    });
    const words = `${wherryBinary} run -b ${bundle} ${made}`;
    const result = await user.as(['script', '-qec', words, '/dev/null'], { input: '' });
    assert.match(result.stdout, /\/dev\/pts\/0\r\n/, result.stderr);
    assert.match(result.stdout, /0:\d+:620/);
  });

  it('in the background: run --detach', async () => {
    const [bundle, made] = await bundleOf('detach', { process: { args: ['/bin/sleep', '1000'] } });
    const result = await user.wherry(['run', '--detach', '-b', bundle, made], {
      outputFile: join(user.folder, 'detach.out'),
    });
    assert.equal(result.code, 0, user.log());
    const { pid } = await state(made);
    // Root inside is the user outside.
    assert.equal(statSync(`/proc/${pid}`).uid, user.uid);
    await user.must(['delete', '--force', made]);
  });

  it('networks: none, of its own, and the host', async () => {
    const links = 'ls /sys/class/net; readlink /proc/self/ns/net';
    const own = await runs('own-net', { process: shell(links) });
    assert.match(own.stdout, /^lo\nnet:/, own.stderr);
    const namespaces = ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type }));
    const host = await runs('host-net', { linux: { cgroupsPath: null, namespaces }, process: shell(links) });
    assert.match(host.stdout, new RegExp(`net:\\[${statSync('/proc/self/ns/net').ino}\\]`), host.stderr);
  });

  it('the death of wherryd costs nothing', async () => {
    const keel = await user.must(['daemon', 'status', '--format', 'json']).catch(() => '');
    const before = wherrydsOf(user);
    assert.equal(before.length, 1, keel);
    process.kill(before[0]!, 'SIGKILL');
    assert.equal((await state(id)).status, 'running');
    assert.equal(await user.must(['exec', id, '/bin/sh', '-c', 'echo still $$ | cut -c1-5']), 'still\n');
    assert.notDeepEqual(wherrydsOf(user), before);
  });

  it("sockets and state are the user's alone", async () => {
    const mode = (path: string) => statSync(join(user.runDir, path)).mode & 0o777;
    assert.equal(mode('.'), 0o700);
    for (const name of ['keel.sock', 'grpc.sock', 'keel.lock', 'wherryd.log'])
      assert.equal(mode(name), 0o600, name);
    assert.equal(statSync(user.runDir).uid, user.uid);
  });

  it('another user is refused, and does not see the containers', async () => {
    const [program, args] = user.command(4344, [wherryBinary, 'list']);
    const env = { ...user.env, WHERRY_RUN_DIR: user.runDir };
    const result = await run(program, args, { env });
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /cannot connect to keel: Permission denied/);
    assert.equal(result.stdout, '');
  });

  it("root's client does not take a user's socket for its own", async () => {
    const [program, args] = user.command(0, [wherryBinary, 'list', '-q']);
    const result = await run(program, args, { env: { ...user.env, WHERRY_RUN_DIR: user.runDir } });
    assert.match(result.stderr, /keel\.sock belongs to another user's process/);
  });

  it('nothing is left after the last', async () => {
    await user.must(['delete', '--force', id]);
    assert.equal((await user.must(['list', '-q'])).trim(), '');
    assert.deepEqual(readdirSync(join(user.runDir, 'containers/local/default')), []);
  });
});

/** Processes of the user's that run wherryd's program. */
function wherrydsOf(user: OrdinaryUser): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return (
          statSync(`/proc/${pid}`).uid === user.uid &&
          /wherryd(\.mjs)?\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) &&
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`WHERRY_RUN_DIR=${user.runDir}`)
        );
      } catch {
        return false;
      }
    });
}
