import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { CreateTaskRequest, StateRequest, StateResponse } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { bufCurl, bufServices } from './support/grpc.ts';
import { setUp, TASK, until } from './support/grpc-world.ts';
import { runCommand } from './support/world.ts';

describe('gRPC by buf curl, with reflection alone', () => {
  it('lists the services', async () => {
    await using world = await setUp();
    assert.deepEqual(await bufServices(world.path), [
      'containerd.task.v2.Task',
      'containerd.task.v3.Task',
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
      'wherry.v1.Runtime',
    ]);
  });

  it('takes a container through its life', async () => {
    await using world = await setUp();
    const { path, runtime } = world;
    const call = (method: string, data: object, headers: string[] = []) =>
      bufCurl(path, `${TASK}/${method}`, JSON.stringify(data), headers);
    assert.deepEqual((await call('Create', { id: 'box', bundle: '/bundle' })).messages, [{ pid: 100 }]);
    assert.deepEqual(runtime.list()[0]?.key, { scope: '', namespace: 'default', id: 'box' });
    assert.deepEqual((await call('Start', { id: 'box' })).messages, [{ pid: 100 }]);
    const [stats] = (await call('Stats', { id: 'box' })).messages;
    assert.deepEqual(stats?.['stats'], {
      '@type': 'io.containerd.cgroups.v1.Metrics',
      pids: { current: '3', limit: '100' },
      cpu: { usage: { total: '1000', kernel: '1', user: '2', perCpu: ['1', '2'] }, throttling: {} },
      memory: {
        cache: '11',
        totalPgFault: '12',
        hierarchicalSwapLimit: '13',
        usage: { limit: '9223372036854775808', usage: '4096', max: '8192' },
      },
    });
    await call('Kill', { id: 'box', signal: 9 });
    assert.equal((await call('Wait', { id: 'box' })).messages[0]?.['exitStatus'], 137);
    assert.equal((await call('Delete', { id: 'box' })).messages[0]?.['exitStatus'], 137);
    assert.deepEqual(runtime.list(), []);
    await call('Create', { id: 'box', bundle: '/bundle' }, ['containerd-namespace: moby']);
    assert.deepEqual(runtime.list()[0]?.key, { scope: '', namespace: 'moby', id: 'box' });
    const listed = await bufCurl(path, 'wherry.v1.Runtime/ListContainers');
    assert.deepEqual(listed.messages[0]?.['containers'], [
      {
        id: 'box',
        namespace: 'moby',
        status: 'CONTAINER_STATUS_CREATED',
        pid: 101,
        bundle: '/bundle',
        createdAt: '2023-11-14T22:13:20Z',
      },
    ]);
    assert.equal((await bufCurl(path, 'wherry.v1.Runtime/Version')).messages[0]?.['version'], '9.9.9');
    assert.deepEqual((await bufCurl(path, 'grpc.health.v1.Health/Check', `{"service":"${TASK}"}`)).messages, [
      { status: 'SERVING' },
    ]);
    assert.match(
      (await bufCurl(path, 'grpc.health.v1.Health/Check', '{"service":"x"}')).stderr,
      /"code": "not_found"/,
    );
  });

  it('names what is wrong', async () => {
    await using world = await setUp();
    await world.live('box');
    for (const [method, data, code, text] of [
      ['Create', '{}', 'invalid_argument', 'id: must not be empty'],
      ['State', '{"id":"none"}', 'not_found', 'id \\"none\\": container not created'],
      ['Start', '{"id":"box"}', 'failed_precondition', '(id)'],
      ['Checkpoint', '{"id":"box"}', 'invalid_argument', 'path: expected an absolute path'],
    ] as const) {
      const { code: status, stderr } = await bufCurl(world.path, `${TASK}/${method}`, data);
      assert.notEqual(status, 0);
      assert.ok(
        stderr.includes(`"code": "${code}"`) && stderr.includes(text.replaceAll('\\"', '\\"')),
        stderr,
      );
    }
  });
});

describe('gRPC', () => {
  it('finds a container of containerd by namespace and id, its own first', async () => {
    await using world = await setUp();
    await world.live('box', '/c.sock');
    const state = async () =>
      StateResponse.decode(
        await world.unary('State', Buffer.from(StateRequest.encode({ id: 'box', execId: '' }).finish())),
      );
    assert.equal((await state()).pid, 100);
    await world.live('box');
    assert.equal((await state()).pid, 101);
  });

  it('knows the containers of a containerd that names no namespace', async () => {
    await using world = await setUp({ config: { protocol: 'grpc' } });
    const start = (namespace: string, id: string) =>
      runCommand(world.world.services, ['-namespace', namespace, '-address', '/c.sock', '-id', id, 'start'], {
        cwd: world.world.dir,
        env: { MAX_SHIM_VERSION: '2' },
      });
    const create = (id: string) =>
      world.unary(
        'Create',
        Buffer.from(
          CreateTaskRequest.encode(CreateTaskRequest.fromPartial({ id, bundle: world.world.dir })).finish(),
        ),
      );
    await start('moby', 'box');
    await create('box');
    await create('local');
    assert.deepEqual(
      world.runtime.list().map(({ key }) => key),
      [
        { scope: '/c.sock', namespace: 'moby', id: 'box' },
        { scope: '', namespace: 'default', id: 'local' },
      ],
    );
    const state = (id: string) =>
      world.unary('State', Buffer.from(StateRequest.encode({ id, execId: '' }).finish()));
    assert.equal(StateResponse.decode(await state('box')).pid, 100);
    assert.equal(StateResponse.decode(await state('local')).pid, 101);
    await start('k8s', 'box');
    await create('box');
    assert.deepEqual(world.runtime.list()[2]?.key, { scope: '/c.sock', namespace: 'k8s', id: 'box' });
    await assert.rejects(state('box'), { code: 9, details: /id: box is in several namespaces/ });
    await world.runtime.delete({ scope: '/c.sock', namespace: 'moby', id: 'box' }, true);
    assert.equal(StateResponse.decode(await state('box')).pid, 102);
  });

  it('calls malformed bytes the fault of the caller', async () => {
    await using world = await setUp();
    await assert.rejects(world.unary('State', Buffer.from('0aff', 'hex')), { code: 3 });
  });

  it('ends a Wait when the caller goes', async () => {
    await using world = await setUp();
    await world.live('box');
    const { runtime } = world;
    const wait = runtime.wait.bind(runtime);
    const aborted = Promise.withResolvers<void>();
    runtime.wait = (key, context) => {
      context.signal?.addEventListener('abort', () => aborted.resolve());
      return wait(key, context);
    };
    const client = new Client(`unix:${world.path}`, credentials.createInsecure());
    const request = Buffer.from(StateRequest.encode({ id: 'box', execId: '' }).finish());
    const call = client.makeUnaryRequest(
      `/${TASK}/Wait`,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
      request,
      () => undefined,
    );
    const seen = runtime.wait;
    await until('the call', () => runtime.wait === seen);
    setTimeout(() => call.cancel(), 100);
    await aborted.promise;
    client.close();
  });
});
