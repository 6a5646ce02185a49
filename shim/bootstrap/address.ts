/** Where the socket of a group lies, and what `start` tells containerd about it. */
import { hash } from 'node:crypto';
import { posix } from 'node:path';
import { BootstrapParams, BootstrapResult } from '../gen/containerd/runtime/bootstrap/v1/bootstrap.ts';

/** Go's shims use the same folder and formula, so each finds the other's group socket. */
export const SOCKET_DIR = '/run/containerd/s';

/** Path without unix://. `address` is containerd's gRPC address, `group` the container's id or its pod's. */
export function groupSocketPath(dir: string, address: string, namespace: string, group: string): string {
  return posix.join(dir, hash('sha256', posix.join(address, namespace, group)));
}

const groupAnnotations = ['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'];

/** The group that config.json's annotations name, else the id. Text that is no configuration names none: Create reports it. */
export function groupOf(configText: string, id: string): string {
  // Most name none, and a look for the names costs a tenth of a parse. An escape may hide one.
  if (!configText.includes('\\u00') && !groupAnnotations.some((name) => configText.includes(name))) return id;
  let annotations: Record<string, unknown> | undefined;
  try {
    annotations = (JSON.parse(configText) as { annotations?: Record<string, unknown> } | null)?.annotations;
  } catch {
    return id;
  }
  for (const name of groupAnnotations) {
    const group = annotations?.[name];
    if (typeof group === 'string' && group !== '') return group;
  }
  return id;
}

/**
 * The message that containerd 2.3 and later write to `start`. Older ones write an Any with the options there, which parses as
 * this message too: only the names tell them apart.
 */
export function parseBootstrap(
  stdin: Uint8Array,
  id: string,
  namespace: string,
): BootstrapParams | undefined {
  if (stdin.length === 0) return undefined;
  try {
    const params = BootstrapParams.decode(stdin);
    return params.instanceId === id && params.namespace === namespace ? params : undefined;
  } catch {
    return undefined;
  }
}

export interface Endpoint {
  /** unix://PATH for ttrpc, PATH alone for gRPC. */
  address: string;
  protocol: 'ttrpc' | 'grpc';
  /** Version of the task service. */
  version: 2 | 3;
}

export type Caller =
  /** 1.6: knows an address only. */
  | 'address'
  /** 1.7 to 2.2. */
  | 'json'
  /** 2.3 and later. */
  | 'bootstrap';

export function callerOf(params: BootstrapParams | undefined, env: Readonly<Record<string, string>>): Caller {
  if (params !== undefined) return 'bootstrap';
  return env['MAX_SHIM_VERSION'] === undefined ? 'address' : 'json';
}

/** What `start` prints, and nothing else. */
export function encodeAnswer(caller: Caller, endpoint: Endpoint): string | Uint8Array {
  const { version, address, protocol } = endpoint;
  switch (caller) {
    case 'bootstrap':
      return BootstrapResult.encode({ version, address, protocol, capabilities: [], metadata: {} }).finish();
    case 'json':
      return JSON.stringify({ version, address, protocol });
    case 'address':
      return address;
  }
}

/** Content of the bundle's `address` file, from which containerd 1.x finds the shim after its restart. */
export function addressFile(endpoint: Endpoint): string {
  return endpoint.protocol === 'ttrpc' && endpoint.version === 2
    ? endpoint.address
    : (encodeAnswer('json', endpoint) as string);
}
