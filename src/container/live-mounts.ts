/** What `mounts add` gives a running container and `mounts remove` takes away again; remembered by place and by the kernel's mount id. */
import { WherryError } from '../errors.ts';
import type { Mount } from '../oci/types.ts';
import type { AssembledTape } from '../tape/assemble.ts';
import { playError, readPage } from '../tape/outcome.ts';
import {
  type Attached,
  compileAddMounts,
  compileRemoveMounts,
  FIRST_LIVE_SLOT,
  type LiveMountsTarget,
  MAX_LIVE_MOUNTS,
} from './compile/live-mounts.ts';
import { components } from './compile/program.ts';
import type { ExecContext } from './exec-context.ts';
import type { PlayHost } from './play.ts';
import type { ContainerRecord } from './record.ts';

export interface LiveMountsDependencies {
  /** What the container's namespaces are. */
  context: ExecContext;
  unprivileged: boolean;
  host: PlayHost;
  nextToken(): bigint;
  /** Writes the record down. */
  save(): void;
}

const DEADLINE_MS = 60_000;

/** All of them or none. Places that had to be made stay. */
export async function addMounts(
  record: ContainerRecord,
  mounts: readonly Mount[],
  deps: LiveMountsDependencies,
): Promise<void> {
  const target = targetOf(record, deps);
  const places = mounts.map(({ destination }) => placeOf(destination));
  checkCount(places);
  places.forEach((place, index) => {
    if (
      record.addedMounts.every(({ destination }) => destination !== place) &&
      places.indexOf(place) === index
    )
      return;
    throw new WherryError('already-exists', `mounts[${index}].destination: ${place} has been added already`, {
      path: `mounts[${index}].destination`,
      hint: 'remove it first',
    });
  });
  const tape = compileAddMounts(target, mounts);
  // The intent first: what is attached when wherryd dies can still be removed.
  const added = places.map((destination) => ({ destination, mountId: '0' }));
  record.addedMounts = [...record.addedMounts, ...added];
  deps.save();
  try {
    const { slots, error } = await play(tape, places.length, deps);
    added.forEach((one, index) => {
      one.mountId = String(slots[index] ?? 0n);
    });
    if (error === undefined) return;
    const attached = added.filter(({ mountId }) => mountId !== '0').map(attachedOf);
    if (attached.length > 0)
      await play(compileRemoveMounts(target, attached.toReversed()), attached.length, deps);
    record.addedMounts = record.addedMounts.filter((one) => !added.includes(one));
    throw record.exit === undefined ? error : notRunning();
  } finally {
    deps.save();
  }
}

/** The youngest first. not-found for a place where `addMounts` has mounted nothing; then nothing is done. */
export async function removeMounts(
  record: ContainerRecord,
  destinations: readonly string[],
  deps: LiveMountsDependencies,
): Promise<void> {
  const target = targetOf(record, deps);
  const places = [...new Set(destinations.map(placeOf))];
  checkCount(places);
  for (const place of places) {
    if (record.addedMounts.some(({ destination }) => destination === place)) continue;
    throw new WherryError('not-found', `${place} is not a mount made by "mounts add"`, { path: 'mounts' });
  }
  const chosen = record.addedMounts.filter(({ destination }) => places.includes(destination)).toReversed();
  const tape = compileRemoveMounts(target, chosen.map(attachedOf));
  const { slots, error } = await play(tape, chosen.length, deps);
  const gone = chosen.filter((_, index) => slots[index] === 1n);
  record.addedMounts = record.addedMounts.filter((one) => !gone.includes(one));
  deps.save();
  if (error !== undefined) throw record.exit === undefined ? error : notRunning();
}

async function play(
  tape: AssembledTape,
  count: number,
  { host, nextToken }: LiveMountsDependencies,
): Promise<{ slots: readonly bigint[]; error: WherryError | undefined }> {
  const result = await host.play(nextToken(), tape.image, { deadline: DEADLINE_MS });
  const slots = readPage(result.page).slots.slice(FIRST_LIVE_SLOT, FIRST_LIVE_SLOT + count);
  return { slots, error: playError(tape, result) };
}

function targetOf(
  record: ContainerRecord,
  { context, unprivileged }: LiveMountsDependencies,
): LiveMountsTarget {
  if (record.exit !== undefined || record.pid === 0 || record.status === 'creating') throw notRunning();
  const has = (wanted: string) => context.namespaces.some(({ type }) => type === wanted);
  if (!has('mount')) {
    throw new WherryError('failed-precondition', 'the container has no mount namespace of its own', {
      path: 'linux.namespaces',
      hint: 'mount it on the host',
    });
  }
  const { pid, pidfdInode } = record;
  return { init: { pid, pidfdInode }, userNamespace: unprivileged || has('user'), unprivileged };
}

function checkCount({ length }: readonly string[]): void {
  if (length > 0 && length <= MAX_LIVE_MOUNTS) return;
  const what = length === 0 ? 'no mount is named' : `${length} mounts at once`;
  throw new WherryError('invalid-argument', `mounts: ${what}`, {
    path: 'mounts',
    hint: `name 1 to ${MAX_LIVE_MOUNTS}`,
  });
}

function placeOf(destination: string): string {
  return `/${components(destination).join('/')}`;
}

function attachedOf({ destination, mountId }: { destination: string; mountId: string }): Attached {
  return { destination, mountId: BigInt(mountId) };
}

function notRunning(): WherryError {
  return new WherryError('failed-precondition', 'container not running');
}
