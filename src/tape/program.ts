/** One instruction before it has numbers: what the builder collects and the assembler writes. */
import type { DataRef, Label, Reg, SharedRef } from './refs.ts';

/** An argument after texts have become data. */
export type Operand = number | bigint | Reg | DataRef | SharedRef;

export interface Instruction {
  op: number;
  step: number;
  dst?: Reg;
  a?: Reg;
  b?: number;
  args: readonly Operand[];
  /** Every register that is read: `a` and those among the arguments. */
  reads: readonly Reg[];
  target?: Label;
  /** System call number; shares the field with `target`. */
  number?: number;
}
