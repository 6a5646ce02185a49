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

  it('refuses by name what it cannot have', () => {
    const ids = [{ hostId: 1000, containerId: 0, length: 1 }];
    const usernsOptions = { mode: NamespaceMode.POD, uids: ids, gids: ids };
    const user = pod({ linux: { securityContext: { namespaceOptions: { usernsOptions } } } });
    assert.throws(() => planSandbox({ ...request, options: user }), /userns_options|user namespace/);
    const foreign = { typeUrl: 'x.Y', value: new Uint8Array([1]) };
    assert.throws(() => planSandbox({ ...request, options: foreign }), /"x\.Y" is not known/);
  });
});
