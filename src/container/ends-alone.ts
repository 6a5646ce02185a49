/**
 * Containers whose caller ends by itself: its client plays the tape that removes what a create has made and goes without asking. wherryd
 * hears of it a moment later, and removes the state.
 */
import { isAlive } from '../linux/pidfd.ts';
import type { ContainerRecord } from './record.ts';
import type { CreateRequest } from './types.ts';
import { sleep } from './waiting.ts';

/** How long what the client has said may be under way. */
const UNDER_WAY_MS = 2000;

/** Nothing but the state is left to wherryd then: no hooks to run, no unit of systemd to stop. */
export function canEndAlone(record: ContainerRecord, { foreground, caller }: CreateRequest): boolean {
  const plain = record.hooks === undefined && record.unit === undefined && caller?.notify === undefined;
  return foreground?.endsAlone === true && plain;
}

/** Whether it has left; not before its name is free. keel may have handed on the words of a later client first. */
export async function goes(record: ContainerRecord): Promise<boolean> {
  if (!record.endsAlone) return false;
  if (!record.gone && (record.pid === 0 || isAlive(record.pid, record.startTime))) return false;
  let free = false;
  const forgotten = record.forgotten.then(() => {
    free = true;
  });
  await Promise.race([forgotten, sleep(UNDER_WAY_MS)]);
  return free;
}
