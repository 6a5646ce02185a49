/**
 * Programs ask for a new system call and fall back to an old one when the answer is ENOSYS; a profile written before the
 * call existed would answer EPERM, and they give up. So a few instructions in front of the filter answer ENOSYS to every
 * number above the highest that the profile names, per architecture. Calls that were given a number out of order are
 * judged by the number all the same.
 */

/** struct sock_filter: u16 code, u8 jt, u8 jf, u32 k (linux/filter.h). */
export const INSTRUCTION_SIZE = 8;
/** BPF_MAXINSNS. */
export const MAX_INSTRUCTIONS = 4096;

const LOAD_WORD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_SET = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K

/** Offsets in struct seccomp_data. */
const DATA_NUMBER = 0;
const DATA_ARCH = 4;

const RETURN_ENOSYS = 0x0005_0000 | 38;
/** __X32_SYSCALL_BIT: x32 shares x86_64's AUDIT_ARCH and has this bit in its numbers. */
const X32_BIT = 0x4000_0000;

type Instruction = [code: number, jumpTrue: number, jumpFalse: number, value: number];

/** Highest numbers that a profile names under one AUDIT_ARCH value; absent: leave that mode to the filter. */
export interface HighestCalls {
  audit: number;
  plain?: number;
  x32?: number;
  /** x86_64 alone must tell its two modes apart. */
  hasX32Mode: boolean;
}

/** Falls through to the filter (a jump of `distance` from its own place) unless the number is above `highest`. */
function section(highest: number | undefined, toFilter: number): Instruction[] {
  if (highest === undefined) return [[JUMP, 0, 0, toFilter - 1]];
  return [
    [JUMP_GREATER, 0, 1, highest],
    [RETURN, 0, 0, RETURN_ENOSYS],
    [JUMP, 0, 0, toFilter - 3],
  ];
}

function group(highest: HighestCalls, after: number): Instruction[] {
  const plainSize = highest.plain === undefined ? 1 : 3;
  const x32Size = highest.hasX32Mode ? (highest.x32 === undefined ? 1 : 3) : 0;
  const body: Instruction[] = [[LOAD_WORD, 0, 0, DATA_NUMBER]];
  if (highest.hasX32Mode) {
    body.push([JUMP_SET, 0, x32Size, X32_BIT], ...section(highest.x32, x32Size + plainSize + after));
  }
  body.push(...section(highest.plain, plainSize + after));
  return [[JUMP_EQUAL, 0, body.length, highest.audit], ...body];
}

function encode(instructions: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(instructions.length * INSTRUCTION_SIZE);
  for (const [index, [code, jumpTrue, jumpFalse, value]] of instructions.entries()) {
    const at = index * INSTRUCTION_SIZE;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(jumpTrue, at + 2);
    bytes.writeUInt8(jumpFalse, at + 3);
    bytes.writeUInt32LE(value >>> 0, at + 4);
  }
  return bytes;
}

/** The instructions to put in front of a filter; they change nothing that the filter relies on. Empty: none needed. */
export function enosysStub(calls: readonly HighestCalls[]): Buffer {
  let tail: Instruction[] = [];
  for (const highest of calls) {
    if (highest.plain === undefined && highest.x32 === undefined) continue;
    tail = [...group(highest, tail.length), ...tail];
  }
  return tail.length === 0 ? Buffer.alloc(0) : encode([[LOAD_WORD, 0, 0, DATA_ARCH], ...tail]);
}
