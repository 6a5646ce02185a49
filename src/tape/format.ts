/**
 * The bytes of a tape, as docs/internals.md ("The tape") lays them out. Twin: native/tape.h; a unit test compares the two.
 * All numbers are little endian.
 */
import type { Arch } from '../linux/arch.ts';

export const MAGIC = 'WHERRYT1';
export const HEADER_BYTES = 40;
export const INSTRUCTION_BYTES = 64;
export const MAX_ARGS = 6;
/** Code and data begin on cache lines, so `align` up to this holds in memory. */
export const MAX_ALIGN = 64;
export const REGISTERS = 256;
/** The register that takes results nobody reads. */
export const SCRATCH = 255;
/** A tape travels in one 8 MiB frame with a little room for the frame's own fields. */
export const MAX_IMAGE = 8 * 1024 * 1024 - 64;

/** The shared page. */
export const PAGE_BYTES = 4096;
export const LANES = 4;
export const LANE_BYTES = 32;
export const SLOTS_OFFSET = LANES * LANE_BYTES;
export const SLOTS = 112;
/** How much of the page comes back after a play: lanes and slots. */
export const REPORT_BYTES = SLOTS_OFFSET + SLOTS * 8;

export const archNumbers: Readonly<Record<Arch, number>> = { x86_64: 1, aarch64: 2 };

export const Op = {
  SYSCALL: 1,
  ON_ERRNO: 2,
  STORE: 3,
  LOAD: 4,
  JUMP_MASK: 5,
  DECIMAL: 6,
  HALT: 7,
  LANE: 8,
  FAIL: 9,
  SET: 10,
} as const;

export const Kind = { IMMEDIATE: 0, DATA: 1, REGISTER: 2, SHARED: 3 } as const;

/** State of a lane. */
export const LaneState = { UNUSED: 0, RUNNING: 1, HALTED: 2, FAILED: 3 } as const;

/** Offsets inside an instruction. */
export const Field = {
  OP: 0,
  DST: 1,
  A: 2,
  B: 3,
  KINDS: 4,
  NARGS: 6,
  STEP: 8,
  TARGET: 12,
  ARGS: 16,
} as const;

/** Bytes that DECIMAL may write. */
export const DECIMAL_BYTES = 20;
