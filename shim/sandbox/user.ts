/**
 * The user namespace of a sandbox. containerd makes the pod's network inside one before it asks for the sandbox; nothing but that network
 * holds it then, so the sandbox joins its owner: another with the same ids could neither mount sysfs nor set the network's sysctls.
 */
import { readFile } from 'node:fs/promises';
import { WherryError } from '../../src/errors.ts';
import type { LinuxIdMapping, Spec } from '../../src/oci/types.ts';
import { type IDMapping, NamespaceMode, type UserNamespace } from '../gen/runtime/v1/pod.ts';

const EINVAL = 22;
const PATH = 'options.linux.security_context.namespace_options.userns_options';

export interface UserPlan {
  namespace: { type: 'user'; path?: string };
  mappings: Required<Pick<NonNullable<Spec['linux']>, 'uidMappings' | 'gidMappings'>>;
  /** The namespace's path is that of the pod's network, whose owner it is. */
  joinOwner: boolean;
}

/** undefined: the host's. `netnsPath`: '' where there is none yet. invalid-argument for what no sandbox can have. */
export function planUser(user: UserNamespace | undefined, netnsPath: string): UserPlan | undefined {
  if (user === undefined || user.mode === NamespaceMode.NODE) return undefined;
  if (user.mode !== NamespaceMode.POD) {
    throw new WherryError('invalid-argument', `${PATH}.mode: a user namespace is the pod's or the node's`, {
      path: `${PATH}.mode`,
      hint: 'use POD or NODE',
    });
  }
  const mappings = { uidMappings: mapped(user.uids, 'uids'), gidMappings: mapped(user.gids, 'gids') };
  const joinOwner = netnsPath !== '';
  return { namespace: { type: 'user', ...(joinOwner && { path: netnsPath }) }, mappings, joinOwner };
}

function mapped(ids: readonly IDMapping[], field: 'uids' | 'gids'): LinuxIdMapping[] {
  if (!ids.some(({ containerId, length }) => containerId === 0 && length > 0)) {
    throw new WherryError(
      'invalid-argument',
      `${PATH}.${field}: id 0 of the pod is mapped to no id of the node`,
      {
        path: `${PATH}.${field}`,
        hint: 'give a mapping with container_id 0',
      },
    );
  }
  return ids.map(({ containerId, hostId, length }) => ({
    containerID: containerId,
    hostID: hostId,
    size: length,
  }));
}

/** failed-precondition where the process's user namespace, which was joined, has other ids than the pod shall have. */
export async function checkJoined(pid: number, { mappings }: UserPlan): Promise<void> {
  for (const [file, field, wanted] of [
    ['uid_map', 'uids', mappings.uidMappings],
    ['gid_map', 'gids', mappings.gidMappings],
  ] as const) {
    const is = rangesOf(await readFile(`/proc/${pid}/${file}`, 'utf8'));
    const shall = rangesOf(wanted.map((one) => `${one.containerID} ${one.hostID} ${one.size}`).join('\n'));
    if (is === shall) continue;
    throw new WherryError(
      'failed-precondition',
      `netns_path: the network namespace belongs to a user namespace with the ${field} ${is}, and the pod shall have ${shall}`,
      { path: 'netns_path', hint: 'make it inside the user namespace of the pod' },
    );
  }
}

/** What is wrong with the network's owner is told of the field that names the network. */
export function ofJoin(thrown: unknown): unknown {
  const error = WherryError.from(thrown);
  // setns(2) into the namespace where one is already.
  if (error.details.path !== 'linux.namespaces[0].path' || error.details.errno !== EINVAL) return thrown;
  return new WherryError(
    'failed-precondition',
    'netns_path: the network namespace belongs to the user namespace of the node',
    {
      path: 'netns_path',
      hint: 'make it inside the user namespace of the pod',
      cause: thrown,
    },
  );
}

/** A range a part, in the order of the pod's ids. */
function rangesOf(text: string): string {
  const ranges = text
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  return ranges
    .sort(([a = 0], [b = 0]) => a - b)
    .map((range) => range.join(':'))
    .join(' ');
}
