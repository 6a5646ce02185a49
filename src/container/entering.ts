/** Entering a container whose init is on its way from the start's go to its program. */
import { stat } from 'node:fs/promises';
import { WherryError } from '../errors.ts';
import { errnoNumbers } from '../linux/errno.ts';
import type { ContainerRecord } from './record.ts';
import { sleep } from './waiting.ts';

const PAUSE_MS = 5;
/** An init that stays hidden so long is a program that nobody may look into. */
const PATIENCE_MS = 5000;

/**
 * Does `act` again while the init may not be entered because it is not its program yet: until then it is hidden from other processes
 * (prctl(2), PR_SET_DUMPABLE), and an ordinary user gets EPERM of setns(2). A start is answered before, as runc's is.
 */
export async function enteringInit<T>(record: ContainerRecord, act: () => Promise<T>): Promise<T> {
  const end = performance.now() + PATIENCE_MS;
  for (let last = false; ; last = true) {
    try {
      return await act();
    } catch (thrown) {
      const { errno, syscall } = WherryError.from(thrown).details;
      const refused = errno === errnoNumbers.EPERM && syscall === 'setns' && process.getuid?.() !== 0;
      if (!refused || last || record.exit !== undefined) throw thrown;
    }
    while ((await isHidden(record.pid)) && performance.now() < end) await sleep(PAUSE_MS);
  }
}

/** proc(5), /proc/[pid]: what may not be looked into belongs to root. */
async function isHidden(pid: number): Promise<boolean> {
  return stat(`/proc/${pid}/environ`).then(
    ({ uid }) => uid === 0,
    () => false,
  );
}
