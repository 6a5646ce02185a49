import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { descriptorFiles } from '../../../shim/gen/descriptors.ts';
import type { ServerReflectionRequest } from '../../../shim/gen/grpc/reflection/v1/reflection.ts';
import { reflect } from '../../../shim/grpc/reflection.ts';

function ask(messageRequest: ServerReflectionRequest['messageRequest']) {
  return reflect({ host: 'h', messageRequest }, ['a.B']).messageResponse;
}

/** Names of the files that come for a symbol. */
function filesFor(value: string): string[] | undefined {
  const response = ask({ $case: 'fileContainingSymbol', value });
  if (response?.$case !== 'fileDescriptorResponse') return undefined;
  return response.value.fileDescriptorProto.map((bytes) => {
    const text = bytes.toString('base64');
    return descriptorFiles.find(({ descriptor }) => descriptor === text)?.name ?? 'unknown';
  });
}

describe('reflection', () => {
  it('gives a file with all that it imports, also indirectly', () => {
    assert.deepEqual(filesFor('containerd.services.events.ttrpc.v1.Events')?.sort(), [
      'containerd/services/events/ttrpc/v1/events.proto',
      'google/protobuf/any.proto',
      'google/protobuf/empty.proto',
      'google/protobuf/timestamp.proto',
    ]);
    assert.deepEqual(filesFor('ttrpc.Response'), [
      'ttrpc/ttrpc.proto',
      'google/rpc/status.proto',
      'google/protobuf/any.proto',
    ]);
  });

  it('finds nested messages, methods and fields', () => {
    for (const symbol of [
      'containerd.task.v3.Task.Create',
      'containerd.task.v3.CreateTaskRequest.bundle',
      'containerd.task.v3.UpdateTaskRequest.AnnotationsEntry',
    ]) {
      assert.equal(filesFor(symbol)?.[0], 'containerd/task/v3/shim.proto', symbol);
    }
    assert.equal(filesFor('io.containerd.cgroups.v1.Metrics')?.[0], 'io/containerd/cgroups/v1/metrics.proto');
  });

  it('says what it does not know', () => {
    for (const value of ['', '.', 'no.such', 'io.containerd.cgroups.v1'])
      assert.equal(filesFor(value), undefined, value);
    for (const question of [
      { $case: 'fileByFilename', value: 'no.proto' },
      { $case: 'fileContainingExtension', value: { containingType: 'a.B', extensionNumber: 1 } },
      { $case: 'allExtensionNumbersOfType', value: 'no.such' },
    ] as const) {
      const response = ask(question);
      assert.ok(response?.$case === 'errorResponse' && response.value.errorCode === 5);
    }
    const none = ask(undefined);
    assert.ok(none?.$case === 'errorResponse' && none.value.errorCode === 12);
  });
});
