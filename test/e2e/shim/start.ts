/** Behaviours 1 to 15: what `start`, `delete`, -v and -info do when containerd executes them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { Options } from '../../../shim/gen/containerd/runc/v1/oci.ts';
import {
  BootstrapParams,
  BootstrapResult,
} from '../../../shim/gen/containerd/runtime/bootstrap/v1/bootstrap.ts';
import { DeleteResponse } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { RuntimeInfo } from '../../../shim/gen/containerd/types/introspection.ts';
import { Any } from '../../../shim/gen/google/protobuf/any.ts';
import { allCgroups, mounts } from '../../support/cgroups.ts';
import { uniqueId } from '../../support/paths.ts';
import { eventually, must, run } from '../../support/run.ts';
import { addressOf } from '../../support/shim-caller.ts';
import { childrenOf, type World } from './world.ts';

const RUNC_OPTIONS = 'containerd.runc.v1.Options';

/** The options as containerd writes them to `start`, -info and into Create. */
export function optionsAny(fields: Partial<Options>): Any {
  return { typeUrl: RUNC_OPTIONS, value: Buffer.from(Options.encode(Options.fromPartial(fields)).finish()) };
}

export function startBehaviours(world: World): void {
  const bundleOf = (name: string, edit?: Parameters<World['caller']['bundle']>[2]) => {
    const id = uniqueId(name);
    return world.caller.bundle(id, ['/bin/sleep', '1000'], edit).then((bundle) => ({ id, bundle }));
  };
  /** Where the socket of this group must be. */
  const socketOf = (group: string, folder = '/run/containerd/s') =>
    join(
      folder,
      createHash('sha256')
        .update(join(world.containerd.address, world.caller.namespace, group))
        .digest('hex'),
    );
  /** Ends a shim that has made nothing. */
  const leave = async (id: string, address: string) => {
    using client = await world.caller.connect(address);
    await client.call('Shutdown', { id });
    assert.equal((await world.caller.delete(id)).code, 0);
  };
  const params = (id: string, more: Partial<BootstrapParams> = {}) =>
    BootstrapParams.encode(
      BootstrapParams.fromPartial({
        instanceId: id,
        namespace: world.caller.namespace,
        containerdGrpcAddress: world.containerd.address,
        containerdTtrpcAddress: `${world.containerd.address}.ttrpc`,
        ...more,
      }),
    ).finish();

  test('1. start prints the plain address under 1.6, JSON version 2 under 1.7 to 2.2, protobuf for BootstrapParams; nothing on stderr', async () => {
    const { id } = await bundleOf('answer');
    const { code, stdout, stderr } = await world.caller.execute(id, 'start');
    assert.deepEqual([code, stderr], [0, '']);
    const path = world.grpc ? join(world.containerd.runDir, 'grpc.sock') : socketOf(id);
    const json = world.grpc
      ? { version: 2, address: path, protocol: 'grpc' }
      : { version: 2, address: `unix://${path}`, protocol: 'ttrpc' };
    if (world.version === '1.6') assert.equal(stdout, `unix://${path}`);
    else assert.deepEqual(JSON.parse(stdout), json);
    await leave(id, path);

    const other = await bundleOf('params');
    const answer = await world.caller.execute(other.id, 'start', { stdin: params(other.id) });
    assert.deepEqual([answer.code, answer.stderr], [0, '']);
    const result = BootstrapResult.decode(Buffer.from(answer.stdout, 'latin1'));
    assert.deepEqual(
      [result.version, result.address, result.protocol],
      [2, `unix://${socketOf(other.id)}`, 'ttrpc'],
    );
    if (!world.grpc) await leave(other.id, socketOf(other.id));
    else await world.caller.delete(other.id);
  });

  test('2. stdin with a legacy Any is not mistaken for BootstrapParams; empty stdin works', async () => {
    for (const stdin of [new Uint8Array(), Any.encode(optionsAny({ root: '/run/x' })).finish()]) {
      const { id } = await bundleOf('stdin');
      const { code, stdout, stderr } = await world.caller.execute(id, 'start', { stdin });
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, world.version === '1.6' ? /^unix:/ : /^\{"version":2,/);
      await leave(id, addressOf(stdout));
    }
  });

  test('3. start exits while the daemon runs, and nobody holds its output', async () => {
    const { id } = await bundleOf('held');
    // run() itself rejects where another process keeps the output.
    const address = await world.caller.start(id);
    assert.ok((await world.keelPid()) > 0);
    await leave(id, address);
  });

  test('4. the first connection right after start succeeds, every time', async () => {
    for (let round = 0; round < Number(process.env['WHERRY_SOAK'] ?? 20); round++) {
      const { id } = await bundleOf('first');
      const address = await world.caller.start(id);
      using client = await world.caller.connect(address);
      assert.equal((await client.call('Connect', { id })).taskPid, 0);
      await leave(id, address);
    }
  });

  test('5. a second start with the same sandbox-id returns the same address, spawns nothing, writes address in its own bundle', async (t) => {
    if (world.grpc) return t.skip('one socket serves all');
    const annotations = { 'io.kubernetes.cri.sandbox-id': uniqueId('pod') };
    const [one, two] = [
      await bundleOf('one', (config) => Object.assign(config, { annotations })),
      await bundleOf('two', (config) => Object.assign(config, { annotations })),
    ];
    const first = await world.caller.start(one.id);
    const keel = await world.keelPid();
    const children = childrenOf(keel).map(({ pid }) => pid);
    assert.equal(await world.caller.start(two.id), first);
    // A player of what was before may be on its way out.
    await eventually(
      'nothing new',
      () => childrenOf(keel).every(({ pid }) => children.includes(pid)) || undefined,
    );
    for (const { bundle } of [one, two])
      assert.equal(addressOf(readFileSync(join(bundle, 'address'), 'utf8')), first);
    assert.equal((await world.caller.delete(one.id)).code, 0);
    await leave(two.id, first);
  });

  test('6. a stale socket is replaced', async (t) => {
    if (world.grpc) return t.skip('one socket serves all');
    const { id } = await bundleOf('stale');
    const path = socketOf(id);
    // bound by a process that was killed: the name stays
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    mkdirSync('/run/containerd/s', { recursive: true, mode: 0o700 });
    await run(process.execPath, ['-e', script]);
    assert.ok(statSync(path).isSocket());
    assert.equal(await world.caller.start(id), path);
    await leave(id, path);
  });

  test('7. modes of socket and directory are 0600 and 0700; the path is the sha256 formula; socket_dir is honoured', async (t) => {
    if (world.grpc) return t.skip('the socket is that of the daemon');
    const { id } = await bundleOf('modes');
    const address = await world.caller.start(id);
    assert.equal(address, socketOf(id));
    assert.equal(statSync(address).mode & 0o777, 0o600);
    await leave(id, address);

    const other = await bundleOf('dir');
    const socketDir = join(world.containerd.folder, 'sd');
    const stdin = params(other.id, { socketDir });
    const { stdout } = await world.caller.execute(other.id, 'start', { stdin });
    const path = BootstrapResult.decode(Buffer.from(stdout, 'latin1')).address.replace('unix://', '');
    assert.equal(path, socketOf(other.id, socketDir));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(socketDir).mode & 0o777, 0o700);
    await leave(other.id, path);
  });

  test('8. the socket is removed after a clean shutdown and after SIGTERM', async (t) => {
    if (world.grpc) return t.skip('the socket is that of the daemon');
    const { id } = await bundleOf('shutdown');
    const address = await world.caller.start(id);
    await leave(id, address);
    await eventually('the socket goes', () => !existsSync(address) || undefined);

    const other = await bundleOf('term');
    const second = await world.caller.start(other.id);
    process.kill(await world.keelPid(), 'SIGTERM');
    await eventually('the socket goes', () => !existsSync(second) || undefined);
    assert.equal((await world.caller.delete(other.id)).code, 0);
  });

  test('9. delete of a bundle whose task is already deleted: exit 0, nothing on stderr, a DeleteResponse', async () => {
    const made = await world.caller.make('done', ['/bin/sh', '-c', 'exit 4']);
    await made.client.call('Wait', { id: made.id });
    const { pid } = await made.client.call('Delete', { id: made.id });
    for (let round = 0; round < 2; round++) {
      const { code, stdout, stderr } = await world.caller.delete(made.id);
      assert.deepEqual([code, stderr], [0, '']);
      const answer = DeleteResponse.decode(Buffer.from(stdout, 'latin1'));
      assert.equal(answer.pid, pid);
    }
    await world.caller.remove(made);
  });

  test('10. delete after the death of the shim with a running container: killed, cgroup, state and mounts gone, status 137, its pid', async () => {
    const id = uniqueId('orphan');
    const bundle = await world.caller.bundle(id, ['/bin/sleep', '1000']);
    const source = world.caller.ownRoot(id);
    const client = await world.caller.connect(await world.caller.start(id));
    const rootfs = [{ type: 'bind', source, target: '', options: ['rbind', 'rw'] }];
    const { pid } = await client.call('Create', { id, bundle, rootfs });
    await client.call('Start', { id });
    const keel = await world.keelPid();
    process.kill(keel, 'SIGKILL');
    await eventually('keel has gone', () => !existsSync(`/proc/${keel}/exe`) || undefined);
    client[Symbol.dispose]();
    assert.ok(existsSync(`/proc/${pid}`), 'the container outlives it');
    const { code, stdout, stderr } = await world.caller.delete(id);
    assert.deepEqual([code, stderr], [0, '']);
    const answer = DeleteResponse.decode(Buffer.from(stdout, 'latin1'));
    assert.deepEqual([answer.pid, answer.exitStatus], [pid, 137]);
    await eventually('it is gone', () => !existsSync(`/proc/${pid}`) || undefined);
    assert.deepEqual(
      [...mounts(), ...allCgroups()].filter((path) => path.includes(id)),
      [],
    );
    const state = join(world.containerd.runDir, 'containers');
    assert.ok(!(await run('find', [state, '-name', id])).stdout.includes(id));
    rmSync(source, { recursive: true });
  });

  test('11. delete without options.json, runtime and init.pid exits with 0', async () => {
    const made = await world.caller.make('bare', ['/bin/true']);
    await made.client.call('Wait', { id: made.id });
    for (const name of ['options.json', 'runtime', 'init.pid']) rmSync(join(made.bundle, name));
    assert.equal((await world.caller.delete(made.id)).code, 0);
    await world.caller.remove(made);
    const { id } = await bundleOf('never');
    assert.equal((await world.caller.delete(id)).code, 0);
  });

  test('13. -v exits with 0 without other flags', async () => {
    const { code, stdout, stderr } = await run(world.caller.binary, ['-v'], { env: world.caller.env });
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^containerd-shim-wherry-v1:\n {2}Version: {2}\d/);
  });

  test('14. -info with and without options; the features are those of `wherry features`; another runtime is an error', async () => {
    const { env, binary } = world.caller;
    const features = JSON.parse(
      (await must(join(binary, '../wherry'), ['features'], { env })).stdout,
    ) as unknown;
    const options = Any.encode(optionsAny({ systemdCgroup: true, binaryName: 'runc' })).finish();
    for (const input of [new Uint8Array(), options]) {
      const { stdout } = await must(binary, ['-info'], { env, input, encoding: 'latin1' });
      const info = RuntimeInfo.decode(Buffer.from(stdout, 'latin1'));
      assert.equal(
        info.features?.typeUrl,
        'types.containerd.io/opencontainers/runtime-spec/1/features/Features',
      );
      assert.deepEqual(JSON.parse(String(info.features?.value)), features);
      assert.equal(info.options?.typeUrl, input.length === 0 ? undefined : RUNC_OPTIONS);
    }
    const other = Any.encode(optionsAny({ binaryName: 'crun' })).finish();
    const refused = await run(binary, ['-info'], { env, input: other });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /options\.binary_name: "crun" is not a runtime/);
  });

  test("15. oom_score_adj is not above that of containerd; ShimCgroup holds what is not the container's own", async () => {
    const score = (pid: number | 'self') => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
    assert.ok(score(await world.keelPid()) <= score(world.containerd.pid));

    const cgroup = `${world.caller.namespace}/shims`;
    const folder = join('/sys/fs/cgroup/memory', cgroup);
    const unified = join('/sys/fs/cgroup', cgroup);
    const v1 = existsSync('/sys/fs/cgroup/memory/tasks');
    mkdirSync(v1 ? folder : unified, { recursive: true });
    const log = join(world.containerd.folder, uniqueId('log'));
    const program = `${log}.sh`;
    writeFileSync(
      program,
      `#!/bin/sh\ncat /proc/self/cgroup > ${log}\nprintf r >&5\nexec 5>&-\ncat <&3 >/dev/null\n`,
      {
        mode: 0o755,
      },
    );
    const made = await world.caller.make('placed', ['/bin/sleep', '1000'], {
      create: { options: optionsAny({ shimCgroup: `/${cgroup}` }), stdout: `binary://${program}` },
    });
    const { pid } = await made.client.call('State', { id: made.id });
    const memory = (text: string) =>
      text.split('\n').find((line) => line.includes(v1 ? ':memory:' : '0::')) ?? '';
    assert.ok(memory(readFileSync(log, 'utf8')).endsWith(`/${cgroup}`), 'its logger');
    assert.ok(memory(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).endsWith(`/${made.id}`), 'itself');
    await world.caller.remove(made);
    await eventually('the cgroup is empty', () => tryRemove(v1 ? folder : unified));
    await eventually('its parent, too', () => tryRemove(dirname(v1 ? folder : unified)));

    await assert.rejects(
      world.caller.make('nowhere', ['/bin/true'], {
        create: { options: optionsAny({ shimCgroup: '/no/such' }) },
      }),
      /enter the cgroup \/no\/such: no such file or directory/i,
    );
  });
}

/** True when the cgroup has gone; its last process may still be on its way out. */
function tryRemove(folder: string): true | undefined {
  try {
    rmdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return undefined;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return true;
}
