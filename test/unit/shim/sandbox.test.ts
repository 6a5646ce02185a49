/** What a sandbox of the shim is made of. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NamespaceMode, PodSandboxConfig } from '../../../shim/gen/runtime/v1/pod.ts';
import { planSandbox } from '../../../shim/sandbox/spec.ts';
import { parseConfig } from '../../../src/oci/config.ts';

const request = { id: 'box', netnsPath: '/run/netns/one', root: 'sandbox', pause: '/lib/pause' };
const pod = (fields: Parameters<typeof PodSandboxConfig.fromPartial>[0]) => ({
  typeUrl: 'runtime.v1.PodSandboxConfig',
  value: PodSandboxConfig.encode(PodSandboxConfig.fromPartial(fields)).finish(),
});
const kinds = (options: ReturnType<typeof pod> | undefined): string[] =>
  (planSandbox({ ...request, options }).config.linux?.namespaces ?? []).map(({ type, path }) =>
    path === undefined ? type : `${type} ${path}`,
  );

describe('a sandbox', () => {
  it('has the namespaces that its pod shares', () => {
    assert.deepEqual(kinds(undefined), ['mount', 'uts', 'network /run/netns/one', 'ipc', 'pid']);
    const { NODE } = NamespaceMode;
    const modes = { network: NODE, ipc: NODE, pid: NODE };
    const ofNode = pod({ hostname: 'x', linux: { securityContext: { namespaceOptions: modes } } });
    assert.deepEqual(kinds(ofNode), ['mount']);
    assert.equal(planSandbox({ ...request, options: ofNode }).config.hostname, undefined);
  });

  it('lies in its cgroup, and is a valid configuration', () => {
    const plain = planSandbox({ ...request, options: pod({ linux: { cgroupParent: '/kubepods/pod1' } }) });
    assert.equal(plain.config.linux?.cgroupsPath, '/kubepods/pod1/box');
    const slice = planSandbox({
      ...request,
      options: pod({ linux: { cgroupParent: '/a.slice/a-b.slice' } }),
    });
    assert.deepEqual(
      [slice.config.linux?.cgroupsPath, slice.systemdCgroup],
      ['a-b.slice:cri-containerd:box', true],
    );
    parseConfig(Buffer.from(JSON.stringify(plain.config)));
  });

  it("has the user namespace that owns its network, or else one of its own, or the node's", () => {
    const ids = [{ hostId: 1000, containerId: 0, length: 10 }];
    const of = (fields: object) => pod({ linux: { securityContext: { namespaceOptions: fields } } });
    const { POD, NODE } = NamespaceMode;
    const own = of({ usernsOptions: { mode: POD, uids: ids, gids: ids } });
    assert.deepEqual(kinds(own).slice(0, 2), ['user /run/netns/one', 'mount']);
    const { config, user } = planSandbox({ ...request, options: own });
    assert.equal(user?.joinOwner, true);
    assert.deepEqual(config.linux?.uidMappings, [{ containerID: 0, hostID: 1000, size: 10 }]);
    parseConfig(Buffer.from(JSON.stringify(config)));
    for (const alone of [
      planSandbox({ ...request, netnsPath: '', options: own }),
      planSandbox({
        ...request,
        options: of({ network: NODE, usernsOptions: { mode: POD, uids: ids, gids: ids } }),
      }),
    ]) {
      assert.equal(alone.user?.joinOwner, false);
      assert.deepEqual(alone.config.linux?.namespaces?.[0], { type: 'user' });
    }
    assert.ok(!kinds(of({ usernsOptions: { mode: NODE } })).some((kind) => kind.startsWith('user')));
  });

  it('refuses by name what it cannot have', () => {
    const of = (usernsOptions: object) =>
      pod({ linux: { securityContext: { namespaceOptions: { usernsOptions } } } });
    const ids = [{ hostId: 1000, containerId: 0, length: 1 }];
    const { POD, CONTAINER } = NamespaceMode;
    for (const [usernsOptions, message] of [
      [{ mode: CONTAINER, uids: ids, gids: ids }, /userns_options\.mode/],
      [{ mode: POD }, /userns_options\.uids: id 0/],
      [{ mode: POD, uids: ids }, /userns_options\.gids: id 0/],
      [{ mode: POD, uids: [{ ...ids[0], containerId: 1 }], gids: ids }, /userns_options\.uids: id 0/],
    ] as const)
      assert.throws(() => planSandbox({ ...request, options: of(usernsOptions) }), message);
    const foreign = { typeUrl: 'x.Y', value: new Uint8Array([1]) };
    assert.throws(() => planSandbox({ ...request, options: foreign }), /"x\.Y" is not known/);
  });
});
