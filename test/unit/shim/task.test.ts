import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Options } from '../../../shim/gen/containerd/runc/v1/oci.ts';
import {
  CloseIORequest,
  CreateTaskRequest,
  type DeleteResponse,
  KillRequest,
  ResizePtyRequest,
  StateRequest,
  type StateResponse,
  UpdateTaskRequest,
} from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Options as RuntimeOptions } from '../../../shim/gen/runtimeoptions/v1/api.ts';
import { createTaskService } from '../../../shim/task/service.ts';
import type { CallContext } from '../../../shim/ttrpc/service.ts';
import { WherryError } from '../../../src/errors.ts';
import { MemoryRuntime } from './support/runtime.ts';
import { recordingLog } from './support/world.ts';

function setUp() {
  const bundle = mkdtempSync(join(tmpdir(), 'wherry-task-'));
  const runtime = new MemoryRuntime();
  const groups: string[] = [];
  const service = createTaskService({
    runtime,
    log: recordingLog(),
    version: '1.2.3',
    shimPid: 77,
    groups: {
      joined({ listenerId }, id) {
        groups.push(`joined ${listenerId} ${id}`);
        return 'unix:///address';
      },
      settings: () => ({ schedCore: false }),
      failed: ({ listenerId }, id) => void groups.push(`failed ${listenerId} ${id}`),
      shutdown: (listener) => void groups.push(`shutdown ${listener}`),
    },
  });
  const context: CallContext = {
    namespace: 'ns',
    scope: '/c.sock',
    listenerId: 3n,
    signal: new AbortController().signal,
    requestId: 'r',
  };
  const call = async (name: string, request: object, more: Partial<CallContext> = {}): Promise<unknown> => {
    const method = service.methods[name];
    if (method === undefined) throw new Error(`no method ${name}`);
    // Through the codec, so that absent fields are what the wire makes of them.
    const decoded = method.request.decode(
      method.request.encode(requestCodecs(name).fromPartial(request)).finish(),
    );
    return method.handle(decoded, { ...context, ...more });
  };
  return {
    bundle,
    runtime,
    groups,
    call,
    key: { scope: '/c.sock', namespace: 'ns', id: 'box' },
    [Symbol.dispose]: () => rmSync(bundle, { recursive: true, force: true }),
  };
}

function requestCodecs(name: string): { fromPartial(fields: object): unknown } {
  switch (name) {
    case 'Create':
      return CreateTaskRequest;
    case 'Kill':
      return KillRequest;
    case 'CloseIO':
      return CloseIORequest;
    case 'ResizePty':
      return ResizePtyRequest;
    case 'Update':
      return UpdateTaskRequest;
    default:
      return StateRequest;
  }
}

const methodNames = [
  'State',
  'Create',
  'Start',
  'Delete',
  'Pids',
  'Pause',
  'Resume',
  'Checkpoint',
  'Kill',
  'Exec',
  'ResizePty',
  'CloseIO',
  'Update',
  'Wait',
  'Stats',
  'Connect',
  'Shutdown',
];

describe('the task service', () => {
  it('takes a container from Create to Delete', async () => {
    using world = setUp();
    const { call, bundle, runtime, key } = world;
    const stdio = { stdin: '', stdout: '/fifo/out', stderr: '/fifo/err', terminal: false };
    const rootfs = [{ type: 'overlay', source: 'overlay', target: '', options: ['lowerdir=/a:/b'] }];
    const options = {
      typeUrl: 'containerd.runc.v1.Options',
      value: Buffer.from(
        Options.encode(
          Options.fromPartial({
            noPivotRoot: true,
            ioUid: 1000,
            binaryName: 'runc',
            root: '/r',
            systemdCgroup: true,
          }),
        ).finish(),
      ),
    };
    assert.deepEqual(await call('Create', { id: 'box', bundle, rootfs, options, ...stdio }), { pid: 100 });
    const { files, ...request } = runtime.requests[0]!;
    assert.deepEqual(request, {
      key,
      bundle,
      rootfsMounts: rootfs,
      stdio,
      settings: { ioUid: 1000 },
      stateDir: '/r/ns/box',
      noPivotRoot: true,
      noNewKeyring: false,
      systemdCgroup: true,
      pidFile: join(bundle, 'init.pid'),
    });
    const file = (name: string) => files?.find(({ path }) => path === join(bundle, name));
    assert.deepEqual(
      [file('runtime')?.text, file('address')?.text, file('address')?.keep],
      ['runc', 'unix:///address', true],
    );
    assert.deepEqual(JSON.parse(file('options.json')?.text ?? ''), {
      no_pivot_root: true,
      io_uid: 1000,
      binary_name: 'runc',
      root: '/r',
      systemd_cgroup: true,
    });

    const created = (await call('State', { id: 'box' })) as StateResponse;
    assert.deepEqual(
      [created.status, created.pid, created.exitStatus, created.stdout],
      [1, 100, 0, '/fifo/out'],
    );
    assert.equal(created.exitedAt?.toISOString(), '0001-01-01T00:00:00.000Z');
    const waits = [call('Wait', { id: 'box' }), call('Wait', { id: 'box' })];
    assert.deepEqual(await call('Start', { id: 'box' }), { pid: 100 });
    await assert.rejects(call('Start', { id: 'box' }), {
      kind: 'failed-precondition',
      message: /^OCI runtime start failed: /,
    });
    await assert.rejects(call('Delete', { id: 'box' }), {
      kind: 'failed-precondition',
      message: /^failed to delete task: /,
    });
    assert.deepEqual(await call('Pids', { id: 'box' }), { processes: [{ pid: 100 }] });
    assert.deepEqual(await call('Connect', { id: 'box' }), { shimPid: 77, taskPid: 100, version: '1.2.3' });
    await call('CloseIO', { id: 'box' });
    await call('CloseIO', { id: 'box', stdin: true });
    assert.deepEqual(runtime.stdinClosed, ['box']);
    assert.deepEqual(await call('Kill', { id: 'box', signal: 9 }), {});
    const exit = { exitStatus: 137, exitedAt: new Date(1_700_000_001_500) };
    assert.deepEqual(await Promise.all(waits), [exit, exit]);
    assert.deepEqual(await call('Wait', { id: 'box' }), exit);
    await assert.rejects(call('Kill', { id: 'box', signal: 9 }), {
      kind: 'not-found',
      message: /process already finished/,
    });
    await assert.rejects(call('Kill', { id: 'box', signal: 9, all: true }), { kind: 'not-found' });
    const stopped = (await call('State', { id: 'box' })) as StateResponse;
    assert.deepEqual(
      [stopped.status, stopped.pid, stopped.exitStatus, stopped.exitedAt],
      [3, 100, 137, exit.exitedAt],
    );
    assert.deepEqual(await call('Delete', { id: 'box' }), { pid: 100, ...exit });
    await assert.rejects(call('State', { id: 'box' }), {
      kind: 'not-found',
      message: /container not created/,
    });
    await call('Shutdown', { id: 'box' });
    assert.deepEqual(world.groups, ['joined 3 box', 'shutdown 3']);
  });

  it('gives a repeated Delete the same answer, also while the first is under way', async () => {
    using world = setUp();
    const { call, bundle, runtime, key } = world;
    await call('Create', { id: 'box', bundle });
    runtime.exit(key, 5);
    const gate = Promise.withResolvers<void>();
    runtime.deleteGate = gate.promise;
    const controller = new AbortController();
    const first = call('Delete', { id: 'box' }, { signal: controller.signal });
    controller.abort();
    const second = call('Delete', { id: 'box' });
    gate.resolve();
    const answer = { pid: 100, exitStatus: 5, exitedAt: new Date(1_700_000_001_500) };
    assert.deepEqual(await Promise.all([first, second, call('Delete', { id: 'box' })]), [
      answer,
      answer,
      answer,
    ]);
    assert.equal(runtime.deletes, 1);
    await call('Create', { id: 'box', bundle });
    runtime.exit({ ...key }, 0);
    assert.equal(((await call('Delete', { id: 'box' })) as DeleteResponse).pid, 101);
    await assert.rejects(call('Delete', { id: 'other' }), { kind: 'not-found' });
  });

  it('keeps the text and kind of a failed create behind its prefix, and leaves nothing known', async () => {
    using world = setUp();
    const { call, bundle, runtime } = world;
    runtime.failure = new WherryError('not-found', 'exec: "nope": executable file not found in $PATH', {
      path: 'process.args[0]',
    });
    await assert.rejects(call('Create', { id: 'box', bundle }), {
      kind: 'not-found',
      message: 'OCI runtime create failed: exec: "nope": executable file not found in $PATH',
      details: { path: 'process.args[0]' },
    });
    await assert.rejects(call('Delete', { id: 'box' }), { kind: 'not-found' });
    assert.deepEqual(world.groups, ['joined 3 box', 'failed 3 box']);
  });

  it('names the field that is wrong', async () => {
    using world = setUp();
    const { call, bundle } = world;
    const bad = { kind: 'invalid-argument' };
    for (const name of methodNames) {
      if (['Pause', 'Resume', 'Checkpoint', 'Exec', 'ResizePty', 'Update', 'Shutdown'].includes(name))
        continue;
      await assert.rejects(call(name, { bundle }), { ...bad, message: 'id: must not be empty' }, name);
      await assert.rejects(
        call(name, { id: '../up', bundle }),
        { ...bad, message: /^id: "\.\.\/up" is not a name/ },
        name,
      );
      await assert.rejects(
        call(name, { id: 'x', bundle }, { namespace: 'a/b' }),
        { ...bad, message: /^namespace: / },
        name,
      );
    }
    await assert.rejects(call('Create', { id: 'x' }), {
      ...bad,
      message: /^bundle: "" is not an absolute path/,
    });
    await assert.rejects(call('Create', { id: 'x', bundle: 'here' }), { ...bad, message: /^bundle: / });
    await assert.rejects(call('Create', { id: 'x', bundle, checkpoint: 'image' }), {
      ...bad,
      message: /^checkpoint: expected an absolute path/,
    });
    for (const options of [
      { typeUrl: 'a.b.C', value: Buffer.alloc(0) },
      { typeUrl: 'containerd.runc.v1.Options', value: Buffer.from('ff', 'hex') },
    ]) {
      await assert.rejects(call('Create', { id: 'x', bundle, options }), { ...bad, message: /^options: / });
    }
    const rootfs = [{ type: 'bind', source: '/', target: '', options: ['rbind', 'X-containerd.x'] }];
    await assert.rejects(call('Create', { id: 'x', bundle, rootfs }), {
      ...bad,
      message: /^rootfs\[0\]\.options: /,
    });
    await call('Create', { id: 'box', bundle });
    await assert.rejects(call('Kill', { id: 'box', signal: 65 }), { ...bad, message: /^signal: 65/ });
    await assert.rejects(call('Create', { id: 'box', bundle }), { kind: 'already-exists' });
  });

  it('knows no execs: their ids are not found, and what is missing says so by name', async () => {
    using world = setUp();
    const { call, bundle } = world;
    await call('Create', { id: 'box', bundle });
    for (const name of ['Start', 'State', 'Delete', 'Kill', 'Wait', 'CloseIO']) {
      await assert.rejects(
        call(name, { id: 'box', execId: 'sh' }),
        { kind: 'not-found', message: /process does not exist sh/ },
        name,
      );
    }
    await assert.rejects(call('Checkpoint', { id: 'box' }), {
      kind: 'invalid-argument',
      message: /path: expected an absolute path/,
    });
  });

  it('writes nothing into the bundle of a caller that is no containerd', async () => {
    using world = setUp();
    await world.call('Create', { id: 'box', bundle: world.bundle }, { scope: '', listenerId: 0n });
    assert.deepEqual(readdirSync(world.bundle), []);
  });

  it('keeps the address that start wrote', async () => {
    using world = setUp();
    writeFileSync(join(world.bundle, 'address'), '{"version":2}');
    await world.call('Create', { id: 'box', bundle: world.bundle });
    assert.equal(readFileSync(join(world.bundle, 'address'), 'utf8'), '{"version":2}');
  });

  it('takes the options of CRI', async () => {
    using world = setUp();
    const configBody = Buffer.from('SystemdCgroup = true\nIoUid = 12\n');
    const value = Buffer.from(
      RuntimeOptions.encode(RuntimeOptions.fromPartial({ typeUrl: 'x', configBody })).finish(),
    );
    const options = { typeUrl: 'type.googleapis.com/runtimeoptions.v1.Options', value };
    await world.call('Create', { id: 'box', bundle: world.bundle, options });
    const [request] = world.runtime.requests;
    assert.deepEqual([request?.systemdCgroup, request?.settings?.ioUid], [true, 12]);
  });

  it('has all seventeen methods', async () => {
    const { methods } = createTaskService({
      runtime: new MemoryRuntime(),
      log: recordingLog(),
      version: '',
      shimPid: 1,
      groups: {
        joined: () => '',
        settings: () => ({ schedCore: false }),
        failed: () => undefined,
        shutdown: () => undefined,
      },
    });
    assert.deepEqual(Object.keys(methods).sort(), methodNames.toSorted());
  });
});
