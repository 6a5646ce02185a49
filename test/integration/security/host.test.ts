/** Attacks on the runtime by its callers and by what they hand it: arguments, ids, annotations, sockets, groups, cgroups. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { temporaryFolder, uniqueId, wherryBinary } from '../../support/paths.ts';
import { eventually, type RunResult, run } from '../../support/run.ts';
import { Wherry } from '../../support/wherry.ts';
import { configOf, type JsonObject } from '../oci-suite/cases.ts';
import { giveTo, writeSmallRoot } from '../oci-suite/host.ts';

/** Ids that nobody has. */
const [user, other, group] = [41_236, 41_237, 41_238];

/** How an HTTP/2 client begins: preface and empty SETTINGS (RFC 9113, 3.4). */
const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';

async function bundleOf(folder: string, id: string, config: JsonObject): Promise<string> {
  const bundle = join(folder, id);
  await writeSmallRoot(join(bundle, 'rootfs'), join(folder, 'store'));
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(configOf({ config }, { id, bundle })));
  return bundle;
}

const as = (uid: number, groups: string[], ...command: string[]): string[] => [
  ...['--reuid', String(uid), '--regid', String(uid), ...groups, '--', ...command],
];

describe('callers of root’s daemon', () => {
  let wherry: Wherry;
  let id: string;
  before(async () => {
    wherry = new Wherry();
    mkdirSync(join(wherry.folder, 'store'));
    id = uniqueId('victim');
    const bundle = await bundleOf(wherry.folder, id, { process: { args: ['/bin/sleep', '1000'] } });
    const outputFile = join(wherry.folder, 'out');
    assert.equal((await wherry.run(['create', '-b', bundle, id], { outputFile })).code, 0);
    await wherry.must(['start', id]);
  });
  after(() => wherry[Symbol.asyncDispose]());

  it('a user of an exec is that user or an error, never root (CVE-2026-30892)', async () => {
    const ids = async (given: string): Promise<RunResult> =>
      wherry.run(['exec', '--user', given, id, '/bin/id', '-u']);
    for (const given of ['1', '1000', '4294967294']) assert.equal((await ids(given)).stdout, `${given}\n`);
    assert.equal((await wherry.must(['exec', '-u', '5:7', id, '/bin/id', '-g'])).trim(), '7');
    const wrong = [
      ' ',
      'no-such-user',
      '1000x',
      '0x0',
      '-1',
      '4294967296',
      '4294967295',
      '1:',
      ':1',
      '1:2:3',
      '1e3',
      '+1',
    ];
    for (const given of wrong) {
      const { code, stdout } = await ids(given);
      assert.notEqual(code, 0, `--user "${given}"`);
      assert.equal(stdout, '', `--user "${given}"`);
    }
  });

  it('an exec has no descriptor of the host and no capability in addition (CVE-2024-21626, CVE-2022-29162)', async () => {
    const caps = await wherry.must(['exec', id, '/bin/grep', '-E', 'Cap(Inh|Amb)', '/proc/self/status']);
    assert.equal(caps, `CapInh:\t${'0'.repeat(16)}\nCapAmb:\t${'0'.repeat(16)}\n`);
    const listed = await wherry.must(['exec', id, '/bin/ls', '/proc/self/fd']);
    assert.deepEqual(listed.trim().split(/\s+/), ['0', '1', '2', '3']);
    for (let number = 3; number <= 12; number++) {
      const { code, stdout } = await wherry.run([
        'exec',
        '--cwd',
        `/proc/self/fd/${number}`,
        id,
        '/bin/ls',
        '..',
      ]);
      assert.notEqual(code, 0, `descriptor ${number} was a folder: ${stdout}`);
    }
  });

  it('ids and cgroups do not climb out of their folders', async () => {
    const trap = join(wherry.runDir, 'containers/trap');
    for (const name of ['../trap', '..', '.', 'a/b', '/etc', 'a\nb', '']) {
      const bundle = join(wherry.folder, id);
      assert.notEqual((await wherry.run(['create', '-b', bundle, name])).code, 0, name);
      assert.notEqual((await wherry.run(['delete', '--force', name])).code, 0, name);
    }
    assert.ok(!existsSync(trap));
    for (const path of ['../x', 'a/../../x', '/../x']) {
      const { code, stderr } = await wherry.run(['exec', '--cgroup', path, id, '/bin/true']);
      assert.notEqual(code, 0, path);
      assert.match(stderr, /cgroup path/);
    }
    const climbing = uniqueId('climbs');
    const bundle = await bundleOf(wherry.folder, climbing, { linux: { cgroupsPath: '/a/../../b' } });
    const result = await wherry.run(['run', '-b', bundle, climbing]);
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /linux\.cgroupsPath/);
  });

  it('annotations of other runtimes change nothing', async () => {
    const name = uniqueId('annotated');
    const trap = join(wherry.folder, 'trap');
    const bundle = await bundleOf(wherry.folder, name, {
      annotations: {
        'run.oci.handler': 'wasm',
        'run.oci.hooks.stdout': trap,
        'run.oci.hooks.stderr': trap,
        'run.oci.seccomp_bpf_data': 'BgAAAAAA/38=',
        'run.oci.keep_original_groups': '1',
        'run.oci.delegate-cgroup': '../..',
        'run.oci.seccomp.receiver': trap,
        'run.oci.pidfd_receiver': trap,
        'krun.config': '/etc/passwd',
        'module.wasm.image/variant': 'compat',
        'org.criu.config': trap,
        'io.katacontainers.config.hypervisor.path': '/bin/false',
        bundle: '/',
      },
      process: { args: ['/bin/sh', '-c', 'echo $$'] },
    });
    const { code, stdout, stderr } = await wherry.run(['run', '-b', bundle, name]);
    assert.deepEqual([code, stdout, stderr], [0, '1\n', '']);
    assert.ok(!existsSync(trap));
  });

  it('another user gets nowhere, not even by sockets that stand open', async () => {
    // An administrator's mistake.
    const sockets = ['keel.sock', 'grpc.sock'].map((name) => join(wherry.runDir, name));
    chmodSync(wherry.folder, 0o755);
    const env = { ...wherry.env };
    const attempt = (): Promise<RunResult> =>
      run('setpriv', as(other, ['--clear-groups'], wherryBinary, 'kill', id, 'KILL'), { env });
    assert.notEqual((await attempt()).code, 0);
    for (const path of [wherry.runDir, ...sockets]) chmodSync(path, 0o777);
    try {
      assert.notEqual((await attempt()).code, 0);
      for (const path of sockets) assert.equal(await talk(path), 'closed without an answer', path);
      assert.match(await wherry.must(['state', id]), /"status": "running"/);
    } finally {
      chmodSync(wherry.runDir, 0o700);
      for (const path of sockets) chmodSync(path, 0o600);
    }
  });

  /** Says hello as the other user: what a server answers that serves us. */
  async function talk(path: string): Promise<string> {
    const program = `
      const socket = require('node:net').connect(${JSON.stringify(path)});
      let got = 0;
      socket.on('data', (bytes) => (got += bytes.length));
      socket.on('error', () => {});
      socket.on('close', () => { console.log(got === 0 ? 'closed without an answer' : 'answered'); process.exit(0); });
      socket.write(Buffer.from('${Buffer.from(preface).toString('hex')}', 'hex'));
      setTimeout(() => { console.log(got === 0 ? 'silent' : 'answered'); process.exit(0); }, 15000);`;
    const result = await run('setpriv', as(other, ['--clear-groups'], process.execPath, '-e', program));
    return result.stdout.trim() || result.stderr;
  }

  it('the same words are answered to ourselves', async () => {
    // What the case above relies on: this socket does speak to those who may.
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect(join(wherry.runDir, 'grpc.sock'));
      socket.on('error', () => resolve(false));
      socket.on('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.write(preface);
    });
    assert.ok(answered);
  });
});

describe('an ordinary user’s daemon', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder();
    for (const name of ['store', 'run']) mkdirSync(join(folder, name));
    chmodSync(folder, 0o755);
    chmodSync(join(folder, 'run'), 0o700);
    chownSync(join(folder, 'run'), user, user);
  });
  after(async () => {
    if (existsSync(join(folder, 'run/keel.sock'))) await wherry(['daemon', 'stop', '--force']);
    rmSync(folder, { recursive: true, force: true });
  });

  function wherry(
    args: readonly string[],
    groups = ['--clear-groups'],
    cgroup = '/dev/null',
  ): Promise<RunResult> {
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: folder, WHERRY_RUN_DIR: join(folder, 'run') };
    const command = ['setpriv', ...as(user, groups, wherryBinary, ...args)];
    return run('sh', ['-c', 'echo $$ > "$0"; exec "$@"', cgroup, ...command], { env });
  }

  async function ownBundle(name: string, config: JsonObject): Promise<[string, string]> {
    const id = uniqueId(name);
    const bundle = await bundleOf(folder, id, { ...config });
    giveTo(bundle, user);
    return [bundle, id];
  }

  it('keel cannot be traced by other processes of the user', async () => {
    assert.equal((await wherry(['daemon', 'start'])).code, 0);
    const status = JSON.parse((await wherry(['daemon', 'status', '--format', 'json'])).stdout) as Record<
      'keel',
      { pid: number }
    >;
    for (const name of ['keel'] as const) {
      const { pid } = status[name];
      // proc(5): what may not be looked into belongs to root.
      assert.equal(statSync(`/proc/${pid}/environ`).uid, 0, name);
      const { code } = await run('setpriv', as(user, ['--clear-groups'], 'cat', `/proc/${pid}/environ`));
      assert.notEqual(code, 0, name);
    }
  });

  it('a group that keeps its members out cannot be left (CVE-2014-8989)', async () => {
    const [bundle, id] = await ownBundle('groups', {
      linux: { cgroupsPath: null },
      'mounts+': [{ destination: '/tmp', type: 'bind', source: 'shared', options: ['bind'] }],
      process: { args: ['/bin/sh', '-c', 'cat /proc/self/setgroups; cat /tmp/closed 2>&1'] },
    });
    mkdirSync(join(bundle, 'shared'), { mode: 0o755 });
    const file = join(bundle, 'shared/closed');
    writeFileSync(file, 'for everybody but the group');
    chownSync(file, 0, group);
    chmodSync(file, 0o604);
    const { stdout, stderr } = await wherry(['run', '-b', bundle, id], ['--groups', String(group)]);
    assert.equal(stdout, "deny\ncat: can't open '/tmp/closed': Permission denied\n", stderr);
  });

  const v1 = !existsSync('/sys/fs/cgroup/cgroup.controllers');
  it('cgroups of the user on the host cannot be changed from inside (CVE-2023-25809)', {
    skip: !v1,
  }, async () => {
    const [bundle, id] = await ownBundle('cgroups', {
      linux: { cgroupsPath: null },
      'mounts+': [
        { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid'] },
      ],
      process: {
        args: [
          '/bin/sh',
          '-c',
          'for f in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $f/wt-evil && echo made in $f; done; true',
        ],
      },
    });
    const own = join('/sys/fs/cgroup/pids', id);
    mkdirSync(own);
    chownSync(own, user, user);
    try {
      // The client, and so the container, lives in a cgroup that belongs to the user.
      const result = await wherry(['run', '-b', bundle, id], ['--clear-groups'], join(own, 'cgroup.procs'));
      assert.ok(!existsSync(join(own, 'wt-evil')), result.stdout);
      assert.equal(result.stdout, '', 'nothing was made');
    } finally {
      await eventually(
        'the cgroup is empty',
        () => readFileSync(join(own, 'cgroup.procs'), 'utf8') === '' || undefined,
      );
      if (existsSync(join(own, 'wt-evil'))) rmdirSync(join(own, 'wt-evil'));
      rmdirSync(own);
    }
  });
});
