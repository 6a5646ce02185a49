/** What the host's network devices of linux.netDevices are right now: asked before the tape is made, as a tape cannot go through lists. */
import { statSync } from 'node:fs';
import { WherryError } from '../errors.ts';
import { readNetDevice } from '../linux/netlink.ts';
import { formatPath } from '../oci/problems.ts';
import type { Spec } from '../oci/types.ts';
import type { NetDevicePlan } from './compile/net-devices.ts';

/**
 * @param network inode of the network namespace of whoever plays the tape; absent: ours
 * @throws WherryError failed-precondition: a device is not there, or the caller is in another network than we can ask
 */
export async function planNetDevices(spec: Spec, network?: bigint): Promise<NetDevicePlan[] | undefined> {
  const wanted = Object.entries(spec.linux?.netDevices ?? {});
  if (wanted.length === 0) return undefined;
  if (
    network !== undefined &&
    network !== 0n &&
    network !== statSync('/proc/self/ns/net', { bigint: true }).ino
  ) {
    throw new WherryError(
      'failed-precondition',
      'linux.netDevices: the caller is in another network namespace than wherryd',
      {
        path: 'linux.netDevices',
        hint: 'give it a wherryd of its own: set WHERRY_DAEMON=0, or WHERRY_RUN_DIR to another folder',
      },
    );
  }
  const plans: NetDevicePlan[] = [];
  for (const [from, { name }] of wanted) {
    const path = formatPath(['linux', 'netDevices', from]);
    const device = await readNetDevice(from).catch((cause: unknown) => {
      throw new WherryError('internal', `${path}: ${String(cause)}`, { path, cause });
    });
    if (device === undefined) {
      throw new WherryError('failed-precondition', `${path}: the host has no network device of this name`, {
        path,
      });
    }
    plans.push({ ...device, from, to: name === undefined || name === '' ? from : name });
  }
  return plans;
}
