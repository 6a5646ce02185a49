/** Which calls come again after the death of wherryd: those of connections that keel owns, under the same id. */
import type { OperationContext } from './types.ts';

/** What to write down of a call. '': it is never repeated, as other callers' ids begin anew with each wherryd: an equal one is another call. */
export function repeatedAs({ requestId }: Pick<OperationContext, 'requestId'>): string {
  return /^\d+\.\d+$/.test(requestId) ? requestId : '';
}

/** The last wherryd has begun this very call, and died before it could say what came of it. `adopted`: what that call was for is of the last one. */
export function isRepeated(
  { adopted }: { adopted: boolean },
  writtenAs: string,
  { requestId }: Pick<OperationContext, 'requestId'>,
): boolean {
  return adopted && writtenAs !== '' && writtenAs === requestId;
}
