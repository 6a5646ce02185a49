/** Tasks.Update of containerd, for which ctr has no command. */
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { Any } from '../../shim/gen/google/protobuf/any.ts';
import type { Containerd } from '../support/containerd.ts';

const METHOD = '/containerd.services.tasks.v1.Tasks/Update';
const RESOURCES = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const DEADLINE_MS = 60_000;

/** UpdateTaskRequest: 1 container_id, 2 resources (Any). Both are shorter than 128 bytes times 128. */
function encode(id: string, resources: object): Buffer {
  const field = (number: number, bytes: Uint8Array): Uint8Array[] => [
    Uint8Array.of((number << 3) | 2, (bytes.length & 0x7f) | 0x80, bytes.length >> 7),
    bytes,
  ];
  const value = Buffer.from(JSON.stringify(resources));
  const any = Any.encode({ typeUrl: RESOURCES, value }).finish();
  return Buffer.concat([...field(1, Buffer.from(id)), ...field(2, any)]);
}

/** As a command would end: code 0, or 1 and a message. */
export function updatePidsLimit(
  containerd: Containerd,
  id: string,
  limit: number,
): Promise<{ code: number; stderr: string }> {
  const client = new Client(`unix:${containerd.address}`, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set('containerd-namespace', containerd.namespace);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      METHOD,
      (request: Buffer) => request,
      (bytes: Buffer) => bytes,
      encode(id, { pids: { limit } }),
      metadata,
      { deadline: Date.now() + DEADLINE_MS },
      (error) => {
        client.close();
        resolve(error === null ? { code: 0, stderr: '' } : { code: 1, stderr: error.message });
      },
    );
  });
}
