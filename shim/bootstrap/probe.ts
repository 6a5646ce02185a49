/** Which version of the task service a running shim speaks: Go's speak only one, old ones 2 and newer ones 3. */
import { WherryError } from '../../src/errors.ts';
import { ConnectRequest, ConnectResponse } from '../gen/containerd/task/v2/shim.ts';
import { TtrpcClient } from '../ttrpc/client.ts';

const TIMEOUT_MS = 2000;
const codecs = { request: ConnectRequest, response: ConnectResponse };

/** Rejects when nobody answers at the socket. */
export async function probe(path: string, id: string): Promise<2 | 3> {
  const client = await TtrpcClient.dial(path, TIMEOUT_MS);
  try {
    // One that speaks both is asked for version 2, which every containerd takes.
    return (await speaks(client, 'containerd.task.v2.Task', id)) ? 2 : 3;
  } finally {
    client.close();
  }
}

async function speaks(client: TtrpcClient, service: string, id: string): Promise<boolean> {
  try {
    await client.call(service, 'Connect', codecs, { id }, TIMEOUT_MS);
    return true;
  } catch (thrown) {
    const error = WherryError.from(thrown);
    if (error.kind === 'unavailable' || error.kind === 'deadline-exceeded') throw error;
    // Any other answer comes from the method itself.
    return error.kind !== 'unimplemented';
  }
}
