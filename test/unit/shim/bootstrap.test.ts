import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { groupOf, groupSocketPath, parseBootstrap } from '../../../shim/bootstrap/address.ts';
import { parseShimFlags } from '../../../shim/bootstrap/flags.ts';
import { Options } from '../../../shim/gen/containerd/runc/v1/oci.ts';
import {
  BootstrapParams,
  BootstrapResult,
} from '../../../shim/gen/containerd/runtime/bootstrap/v1/bootstrap.ts';
import {
  ConnectRequest,
  ConnectResponse,
  CreateTaskRequest,
  CreateTaskResponse,
  DeleteRequest,
  DeleteResponse,
  ShutdownRequest,
} from '../../../shim/gen/containerd/task/v2/shim.ts';
import { RuntimeInfo } from '../../../shim/gen/containerd/types/introspection.ts';
import { Any } from '../../../shim/gen/google/protobuf/any.ts';
import { Empty } from '../../../shim/gen/google/protobuf/empty.ts';
import { TtrpcClient } from '../../../shim/ttrpc/client.ts';
import { encodeFrame, FrameCutter } from '../../../shim/ttrpc/frame.ts';
import { serveTtrpcConnection } from '../../../shim/ttrpc/server.ts';
import { unary } from '../../../shim/ttrpc/service.ts';
import { createWorld, runCommand, type World } from './support/world.ts';

const TASK = 'containerd.task.v2.Task';
const ADDRESS = '/run/containerd/containerd.sock';

function bundle(world: World, id: string, config: unknown = {}): string {
  const path = join(world.dir, 'bundles', id);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  return path;
}

/** As containerd 2.3 calls: only these give the sockets a folder of ours. */
function bootstrap(world: World, id: string): Uint8Array {
  return BootstrapParams.encode(
    BootstrapParams.fromPartial({
      instanceId: id,
      namespace: 'ns',
      containerdTtrpcAddress: join(world.dir, 'events.sock'),
      socketDir: world.dir,
    }),
  ).finish();
}

const startWords = (id: string) => [
  '-namespace',
  'ns',
  '-address',
  ADDRESS,
  '-publish-binary',
  '/bin/containerd',
  '-id',
  id,
  'start',
];
const deleteWords = (id: string, path: string) => [
  '-namespace',
  'ns',
  '-address',
  ADDRESS,
  '-publish-binary',
  '',
  '-id',
  id,
  '-bundle',
  path,
  '-debug',
  'delete',
];

async function start(world: World, id: string, config: unknown = {}): Promise<string> {
  const result = await runCommand(world.services, startWords(id), {
    cwd: bundle(world, id, config),
    stdin: bootstrap(world, id),
  });
  assert.deepEqual([result.stderr, result.code], ['', 0]);
  return BootstrapResult.decode(result.stdout).address;
}

async function create(client: TtrpcClient, world: World, id: string): Promise<number> {
  const request = CreateTaskRequest.fromPartial({ id, bundle: join(world.dir, 'bundles', id) });
  const codecs = { request: CreateTaskRequest, response: CreateTaskResponse };
  return (await client.call(TASK, 'Create', codecs, request, 2000)).pid;
}

const remove = (client: TtrpcClient, id: string) =>
  client.call(TASK, 'Delete', { request: DeleteRequest, response: DeleteResponse }, { id, execId: '' }, 2000);
const shutdown = (client: TtrpcClient, id: string) =>
  client.call(TASK, 'Shutdown', { request: ShutdownRequest, response: Empty }, { id, now: false }, 2000);

/** What a wherryd that is started anew would read. */
const socketLines = (world: World): string[] =>
  readFileSync(join(world.dir, 'run', 'sockets'), 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the flags', () => {
  it('are read in every form that Go takes', () => {
    const flags = parseShimFlags([
      '--namespace=a',
      '-id',
      'b',
      '-address=c',
      '-debug',
      '-bundle=',
      '-v=false',
      'start',
      '-x',
    ]);
    assert.deepEqual(
      [flags.namespace, flags.id, flags.address, flags.debug, flags.bundle, flags.version, flags.action],
      ['a', 'b', 'c', true, '', false, 'start'],
    );
    assert.equal(parseShimFlags(['-id', 'b', '--', 'delete']).action, 'delete');
    assert.equal(parseShimFlags([]).action, '');
  });

  it('are refused by name', () => {
    assert.throws(() => parseShimFlags(['-nope', 'start']), /flag provided but not defined: -nope/);
    assert.throws(() => parseShimFlags(['-id']), /flag needs an argument: -id/);
    assert.throws(() => parseShimFlags(['-debug=maybe']), /invalid boolean value "maybe" for -debug/);
    assert.throws(() => parseShimFlags(['---id', 'x']), /bad flag syntax/);
  });
});

describe('the socket path', () => {
  it('is that of Go shims', () => {
    const hash = createHash('sha256').update('/run/containerd/containerd.sock/k8s.io/pod1').digest('hex');
    for (const address of [
      ADDRESS,
      '/run//containerd/./containerd.sock',
      '/run/containerd/x/../containerd.sock',
    ]) {
      assert.equal(
        groupSocketPath('/run/containerd/s', address, 'k8s.io', 'pod1'),
        `/run/containerd/s/${hash}`,
      );
    }
  });

  it('is one for a pod', () => {
    const annotations = (entries: Record<string, unknown>) => JSON.stringify({ annotations: entries });
    const cri = 'io.kubernetes.cri.sandbox-id';
    assert.equal(groupOf(annotations({ [cri]: 'pod' }), 'c'), 'pod');
    assert.equal(groupOf(annotations({ [cri]: 'pod', 'io.containerd.runc.v2.group': 'g' }), 'c'), 'g');
    for (const text of ['', '{', 'null', '[]', '{}', annotations({ [cri]: '' }), annotations({ [cri]: 5 })]) {
      assert.equal(groupOf(text, 'c'), 'c', text);
    }
  });
});

describe('standard input of start', () => {
  it('is a bootstrap message only where its names are those of the flags', () => {
    const params = BootstrapParams.encode(
      BootstrapParams.fromPartial({ instanceId: 'i', namespace: 'n', logLevel: -4 }),
    ).finish();
    assert.equal(parseBootstrap(params, 'i', 'n')?.logLevel, -4);
    assert.equal(parseBootstrap(params, 'other', 'n'), undefined);
    const options = Buffer.from(Options.encode(Options.fromPartial({ binaryName: 'runc' })).finish());
    const legacy = Any.encode({ typeUrl: 'containerd.runc.v1.Options', value: options }).finish();
    assert.equal(parseBootstrap(legacy, 'i', 'n'), undefined);
    assert.equal(parseBootstrap(Buffer.from('ff', 'hex'), 'i', 'n'), undefined);
    assert.equal(parseBootstrap(Buffer.alloc(0), '', ''), undefined);
  });
});

describe('start', () => {
  it('answers containerd 2.3 with a protobuf, and the socket accepts before it does', async () => {
    await using world = createWorld();
    const cwd = bundle(world, 'box');
    const { stdout, stderr, code } = await runCommand(world.services, startWords('box'), {
      cwd,
      stdin: bootstrap(world, 'box'),
    });
    assert.deepEqual([stderr, code], ['', 0]);
    const result = BootstrapResult.decode(stdout);
    const path = groupSocketPath(world.dir, ADDRESS, 'ns', 'box');
    assert.deepEqual([result.version, result.protocol, result.address], [2, 'ttrpc', `unix://${path}`]);
    assert.equal(readFileSync(join(cwd, 'address'), 'utf8'), `unix://${path}`);
    using client = await TtrpcClient.dial(result.address);
    const codecs = { request: ConnectRequest, response: ConnectResponse };
    const answer = { shimPid: 4242, taskPid: 0, version: '9.9.9' };
    assert.deepEqual(await client.call(TASK, 'Connect', codecs, { id: 'box' }, 2000), answer);
    assert.deepEqual(
      await client.call('containerd.task.v3.Task', 'Connect', codecs, { id: 'box' }, 2000),
      answer,
    );
  });

  for (const [caller, env] of [
    ['1.6', {}],
    ['1.7 to 2.2', { MAX_SHIM_VERSION: '2' }],
  ] as const) {
    it(`answers containerd ${caller} as it can read, with options on standard input or none`, async () => {
      // These cannot say where sockets lie: nothing is bound, the path is only compared.
      const listened: string[] = [];
      await using world = createWorld({
        keel: { listen: async (path) => BigInt(listened.push(path)), unlisten: async () => undefined },
      });
      const stdin = Any.encode({
        typeUrl: 'containerd.runc.v1.Options',
        value: Buffer.from('0801', 'hex'),
      }).finish();
      for (const [id, input] of [
        ['one', stdin],
        ['two', Buffer.alloc(0)],
      ] as const) {
        const { stdout, stderr, code } = await runCommand(world.services, startWords(id), {
          cwd: bundle(world, id),
          env,
          stdin: input,
        });
        assert.deepEqual([stderr, code], ['', 0]);
        const address = `unix://${listened.at(-1)}`;
        const folder = process.geteuid?.() === 0 ? '/run/containerd/s' : join(world.dir, 'run', 's');
        assert.equal(address, `unix://${groupSocketPath(folder, ADDRESS, 'ns', id)}`);
        const expected =
          caller === '1.6' ? address : JSON.stringify({ version: 2, address, protocol: 'ttrpc' });
        assert.equal(stdout.toString(), expected);
      }
    });
  }

  it('gives the containers of a pod one socket', async () => {
    await using world = createWorld();
    const pod = { annotations: { 'io.kubernetes.cri.sandbox-id': 'pod' } };
    const addresses = await Promise.all([start(world, 'pause', pod), start(world, 'app', pod)]);
    addresses.push(await start(world, 'later', pod));
    assert.equal(new Set(addresses).size, 1);
    assert.equal(world.keel.servers.size, 1);
    for (const id of ['pause', 'app', 'later']) {
      assert.equal(readFileSync(join(world.dir, 'bundles', id, 'address'), 'utf8'), addresses[0]);
    }
  });

  it('sends containerd to another shim that serves the pod, in the version it speaks', async () => {
    for (const version of ['v2', 'v3'] as const) {
      await using world = createWorld();
      const connect = unary({
        request: ConnectRequest,
        response: ConnectResponse,
        handle: async () => ({ shimPid: 1, taskPid: 1, version: '' }),
      });
      const other = createServer((socket) => {
        const { onFrame } = serveTtrpcConnection({
          services: new Map([[`containerd.task.${version}.Task`, { Connect: connect }]]),
          send: (frame) => void socket.write(frame),
          context: { namespace: '', scope: '', listenerId: 0n },
          name: 'other',
        });
        const cutter = new FrameCutter(
          ({ streamId, type, flags, payload }) => onFrame(encodeFrame(streamId, type, flags, payload)),
          () => undefined,
        );
        socket.on('data', (chunk: Buffer) => cutter.push(chunk));
      });
      const path = groupSocketPath(world.dir, ADDRESS, 'ns', 'box');
      await new Promise<void>((resolve) => other.listen(path, resolve));
      const { stdout, stderr } = await runCommand(world.services, startWords('box'), {
        cwd: bundle(world, 'box'),
        stdin: bootstrap(world, 'box'),
      });
      other.close();
      assert.equal(stderr, '');
      const result = BootstrapResult.decode(stdout);
      assert.deepEqual([result.version, result.address], [version === 'v2' ? 2 : 3, `unix://${path}`]);
    }
  });

  it('names what is wrong on standard error, and fails', async () => {
    await using world = createWorld();
    for (const [words, text] of [
      [['-namespace', 'ns', '-address', ADDRESS, 'start'], '-id: must not be empty'],
      [['-id', 'x', '-address', ADDRESS, 'start'], '-namespace: must not be empty'],
      [['-id', 'x', '-namespace', 'n', 'start'], '-address: must not be empty'],
      [['-id', '../x', '-namespace', 'n', '-address', ADDRESS, 'start'], '-id: "../x" is not a name'],
      [['-id', 'x', '-namespace', 'n', 'stop'], 'unknown action "stop"'],
      [['-nope'], 'flag provided but not defined: -nope'],
    ] as const) {
      const { stdout, stderr, code } = await runCommand(world.services, words, { cwd: world.dir });
      assert.deepEqual([stdout.length, code], [0, 1]);
      assert.ok(stderr.startsWith(text), stderr);
      assert.equal(stderr.trimEnd().split('\n').length, 1);
    }
  });

  it('gives a bare path for gRPC where that is configured, to containerd 1.7 only, and warns', async () => {
    await using world = createWorld({ config: { protocol: 'grpc' } });
    const address = join(world.dir, 'run', 'grpc.sock');
    const cwd = bundle(world, 'box');
    const { stdout } = await runCommand(world.services, startWords('box'), {
      cwd,
      env: { MAX_SHIM_VERSION: '2' },
    });
    const expected = JSON.stringify({ version: 2, address, protocol: 'grpc' });
    assert.equal(stdout.toString(), expected);
    assert.equal(readFileSync(join(cwd, 'address'), 'utf8'), expected);
    assert.equal(world.keel.servers.size, 0);
    assert.equal(world.log.lines.filter(({ level }) => level === 'warn').length, 1);
    assert.match(await start(world, 'other'), /^unix:/);
  });
});

describe('the socket of a group', () => {
  it('goes after Shutdown when its last container has gone, and a new start makes a new one', async () => {
    await using world = createWorld();
    const address = await start(world, 'box');
    using client = await TtrpcClient.dial(address);
    await create(client, world, 'box');
    await shutdown(client, 'box');
    assert.equal(world.keel.servers.size, 1, 'a container lives');
    await remove(client, 'box');
    await until('the deferred Shutdown', () => world.keel.servers.size === 0);
    await until('the line', () => socketLines(world).length === 0);
    await assert.rejects(TtrpcClient.dial(address), { kind: 'unavailable' });
    await create(client, world, 'box');
    assert.equal(await start(world, 'box'), address);
    (await TtrpcClient.dial(address)).close();
  });

  it('goes at Shutdown after Delete, as containerd ends each task', async () => {
    await using world = createWorld();
    using client = await TtrpcClient.dial(await start(world, 'box'));
    await create(client, world, 'box');
    await remove(client, 'box');
    assert.equal(world.keel.servers.size, 1);
    await shutdown(client, 'box');
    await until('the end of the socket', () => world.keel.servers.size === 0);
  });

  it('stays for a container whose Create is yet to come', async () => {
    await using world = createWorld();
    const pod = { annotations: { 'io.kubernetes.cri.sandbox-id': 'pod' } };
    using client = await TtrpcClient.dial(await start(world, 'pause', pod));
    await create(client, world, 'pause');
    await remove(client, 'pause');
    await start(world, 'app', pod);
    await shutdown(client, 'pause');
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(world.keel.servers.size, 1);
    await create(client, world, 'app');
    await remove(client, 'app');
    await until('the end of the socket', () => world.keel.servers.size === 0);
  });

  it('goes when `delete` was called for all, without any Shutdown', async () => {
    await using world = createWorld();
    await start(world, 'box');
    const cwd = join(world.dir, 'bundles', 'box');
    await runCommand(world.services, deleteWords('box', cwd), { cwd });
    await until('the end of the socket', () => world.keel.servers.size === 0);
  });

  it('is written down with who has joined it a moment after the Create', async () => {
    await using world = createWorld();
    using client = await TtrpcClient.dial(await start(world, 'box'));
    await create(client, world, 'box');
    assert.match(socketLines(world)[0] ?? '', /"members":\[\["box","pending"\]\]/);
    await until('the line', () => /"members":\[\["box","joined"\]\]/.test(socketLines(world)[0] ?? ''));
  });

  it('knows who has joined it also where that was not written down', async () => {
    await using world = createWorld();
    const address = await start(world, 'box');
    using client = await TtrpcClient.dial(address);
    await create(client, world, 'box');
    world.restart();
    using again = await TtrpcClient.dial(address);
    await shutdown(again, 'box');
    assert.match(socketLines(world)[0] ?? '', /"members":\[\["box","joined"\]\],"shutdown":true/);
  });

  it('is remembered by a wherryd that is started anew, and not by one under another keel', async () => {
    await using world = createWorld();
    const address = await start(world, 'box');
    world.restart();
    using client = await TtrpcClient.dial(address);
    assert.equal(await create(client, world, 'box'), 100);
    assert.deepEqual(world.runtime.list()[0]?.key, { scope: ADDRESS, namespace: 'ns', id: 'box' });
    world.keel.boot = 8n;
    world.restart();
    assert.deepEqual(socketLines(world), []);
    using stranger = await TtrpcClient.dial(address);
    await assert.rejects(create(stranger, world, 'other'), { kind: 'unimplemented' });
  });
});

describe('delete', () => {
  it('removes a live container and reports its end', async () => {
    await using world = createWorld();
    using client = await TtrpcClient.dial(await start(world, 'box'));
    await create(client, world, 'box');
    const cwd = join(world.dir, 'bundles', 'box');
    const { stdout, stderr, code } = await runCommand(world.services, deleteWords('box', cwd), { cwd });
    assert.deepEqual([stderr, code], ['', 0]);
    const { pid, exitStatus } = DeleteResponse.decode(stdout);
    assert.deepEqual([pid, exitStatus], [100, 137]);
    assert.deepEqual(world.runtime.list(), []);
  });

  it('is content where nothing is left, with the pid that the bundle remembers', async () => {
    await using world = createWorld();
    const cwd = bundle(world, 'gone');
    const first = await runCommand(world.services, deleteWords('gone', cwd), { cwd });
    assert.deepEqual([first.stderr, first.code, DeleteResponse.decode(first.stdout).pid], ['', 0, 0]);
    writeFileSync(join(cwd, 'init.pid'), '4711');
    const words = deleteWords('gone', cwd).filter((word) => word !== '-bundle' && word !== cwd);
    const second = DeleteResponse.decode((await runCommand(world.services, words, { cwd })).stdout);
    assert.deepEqual([second.pid, second.exitStatus], [4711, 137]);
  });

  it('leaves a live container alone that containerd reached over gRPC', async () => {
    await using world = createWorld({ config: { protocol: 'grpc' } });
    const cwd = bundle(world, 'box');
    await runCommand(world.services, startWords('box'), { cwd, env: { MAX_SHIM_VERSION: '2' } });
    const key = { scope: ADDRESS, namespace: 'ns', id: 'box' };
    const stdio = { stdin: '', stdout: '', stderr: '', terminal: false };
    await world.runtime.create({ key, bundle: cwd, rootfsMounts: [], stdio }, { requestId: '' });
    await world.runtime.start(key);
    const { stdout, code } = await runCommand(world.services, deleteWords('box', cwd), { cwd });
    assert.deepEqual([stdout.length, code], [0, 0]);
    assert.equal(world.runtime.find(key)?.status, 'running');
    world.runtime.exit(key, 3);
    const second = await runCommand(world.services, deleteWords('box', cwd), { cwd });
    assert.equal(DeleteResponse.decode(second.stdout).exitStatus, 3);
    assert.equal(world.runtime.find(key), undefined);
  });
});

describe('-v and -info', () => {
  it('tell version and features without any other flag', async () => {
    await using world = createWorld({ features: () => ({ ociVersionMax: '1.3.0' }) });
    const version = await runCommand(world.services, ['-v']);
    assert.match(version.stdout.toString(), /^containerd-shim-wherry-v1:\n {2}Version: {2}9\.9\.9\n/);
    const options = { typeUrl: 'containerd.runc.v1.Options', value: Buffer.from('0801', 'hex') };
    for (const stdin of [Any.encode(options).finish(), Buffer.alloc(0)]) {
      const { stdout, stderr, code } = await runCommand(world.services, ['-info'], { stdin });
      assert.deepEqual([stderr, code], ['', 0]);
      const info = RuntimeInfo.decode(stdout);
      assert.deepEqual([info.name, info.version?.version], ['io.containerd.wherry.v1', '9.9.9']);
      assert.equal(
        info.features?.typeUrl,
        'types.containerd.io/opencontainers/runtime-spec/1/features/Features',
      );
      assert.deepEqual(JSON.parse(String(info.features?.value)), { ociVersionMax: '1.3.0' });
      assert.deepEqual(info.options, stdin.length === 0 ? undefined : options);
    }
    assert.equal((await runCommand(world.services, ['-info'], { terminal: true })).code, 0);
    assert.equal((await runCommand(world.services, ['-info'], { stdin: Buffer.from('ff', 'hex') })).code, 1);
  });
});
