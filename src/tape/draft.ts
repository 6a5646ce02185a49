/**
 * What a tape is written into before it is assembled. A container needs one after the other, so the arrays are used again:
 * fresh ones would be the largest part of the garbage that a create leaves.
 */
import { Code } from './code.ts';
import { DataSegment } from './data.ts';
import { type DataRef, TapeError } from './refs.ts';
import { Lives } from './registers.ts';

export interface Draft {
  code: Code;
  data: DataSegment;
  lives: Lives;
}

/** One larger than that is not kept. */
const KEPT_BYTES = 512 * 1024;

let spare: Draft | undefined;

export function takeDraft(): Draft {
  const draft = spare ?? { code: new Code(), data: new DataSegment(), lives: new Lives() };
  spare = undefined;
  return draft;
}

/** Whoever had it writes to CLOSED from now on. */
export function giveBack(draft: Draft): void {
  if (draft.code.size + draft.data.size > KEPT_BYTES) return;
  draft.code.clear();
  draft.data.clear();
  spare = draft;
}

class ClosedCode extends Code {
  override next(): number {
    throw assembled();
  }
}

class ClosedData extends DataSegment {
  override text(): number {
    throw assembled();
  }

  override space(): DataRef {
    throw assembled();
  }

  override point(): void {
    throw assembled();
  }
}

function assembled(): TapeError {
  return new TapeError('it is assembled already');
}

export const CLOSED: Draft = { code: new ClosedCode(0), data: new ClosedData(0), lives: new Lives() };
