/** Which calls come again after the death of wherryd: those of connections that keel owns, under the same id. */
import type { OperationContext } from './types.ts';

/** '' for a call that is never repeated: other callers' ids begin anew with each wherryd, so an equal one is another call. */
export function repeatedAs({ requestId }: Pick<OperationContext, 'requestId'>): string {
  return /^\d+\.\d+$/.test(requestId) ? requestId : '';
}
