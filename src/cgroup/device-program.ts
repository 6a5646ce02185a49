/**
 * Device rules for cgroup v2: an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE, generated instruction by instruction.
 * Sources: the kernel's Documentation/bpf/standardization/instruction-set.rst and struct bpf_cgroup_dev_ctx of linux/bpf.h.
 * It decides for each right (read, write, mknod) by the last rule that speaks of it, as writes to v1's files would.
 */
import type { LinuxDeviceRule } from '../oci/types.ts';
import { effectiveRules } from './devices-v1.ts';

/** Bits of access_type's high half (linux/bpf.h, BPF_DEVCG_ACC_*). */
const accessBits: Record<string, number> = { m: 1, r: 2, w: 4 };
/** access_type's low half (BPF_DEVCG_DEV_*). */
const deviceTypes: Record<string, number> = { b: 1, c: 2, u: 2 };

/** Bytes of one instruction: u8 code, u4 dst, u4 src, i16 offset, i32 immediate. */
const INSTRUCTION = 8;
/** Class | operation | operand of the few instructions that are used; W: 32 bits. */
const Code = {
  LOAD_W: 0x61,
  AND_IMM: 0x54,
  RSH_IMM: 0x74,
  MOV_REG: 0xbc,
  MOV_IMM: 0xb4,
  /** 64-bit compares of zero-extended values: kernels before 5.1 have no others. */
  JNE_IMM: 0x55,
  JUMP: 0x05,
  JSET_IMM: 0x45,
  EXIT: 0x95,
} as const;

/** Registers: the result, the context; then what of the request is left to decide and what it is about. */
const R0 = 0;
const CONTEXT = 1;
const TYPE = 2;
const ACCESS = 3;
const MAJOR = 4;
const MINOR = 5;

/**
 * The program's bytes, or undefined where nothing is denied and so no program is needed.
 * A request is allowed only if every right of it is.
 */
export function deviceProgram(rules: readonly LinuxDeviceRule[]): Uint8Array | undefined {
  const { allowed, rules: list } = effectiveRules(rules);
  if (allowed && list.every(({ allow }) => allow)) return undefined;
  const code = new Assembler();
  code.add(Code.LOAD_W, TYPE, CONTEXT, 0);
  code.add(Code.MOV_REG, ACCESS, TYPE);
  code.add(Code.AND_IMM, TYPE, 0, 0, 0xffff);
  code.add(Code.RSH_IMM, ACCESS, 0, 0, 16);
  code.add(Code.LOAD_W, MAJOR, CONTEXT, 4);
  code.add(Code.LOAD_W, MINOR, CONTEXT, 8);
  // The last rule first: it wins.
  for (const rule of [...list].reverse()) ruleCode(code, rule);
  answer(code, allowed);
  return code.bytes();
}

/** For a container whose new rules deny nothing: the program that is there cannot be taken away without a moment without rules. */
export function allowingProgram(): Uint8Array {
  const code = new Assembler();
  answer(code, true);
  return code.bytes();
}

function ruleCode(code: Assembler, { allow, type, major, minor, access }: LinuxDeviceRule): void {
  const bits = [...(access ? access : 'rwm')].reduce((all, letter) => all | (accessBits[letter] ?? 0), 0);
  const misses: number[] = [];
  const compare = (register: number, value: number | bigint | undefined) => {
    if (value !== undefined && value >= 0) misses.push(code.add(Code.JNE_IMM, register, 0, 0, Number(value)));
  };
  compare(TYPE, deviceTypes[type ?? '']);
  compare(MAJOR, major);
  compare(MINOR, minor);
  if (allow) {
    // What this rule allows is settled; the rest is for earlier rules.
    code.add(Code.AND_IMM, ACCESS, 0, 0, ~bits);
    misses.push(code.add(Code.JNE_IMM, ACCESS, 0, 0, 0));
    answer(code, true);
  } else {
    const hit = code.add(Code.JSET_IMM, ACCESS, 0, 0, bits);
    misses.push(code.add(Code.JUMP, 0));
    code.land(hit);
    answer(code, false);
  }
  for (const miss of misses) code.land(miss);
}

function answer(code: Assembler, allow: boolean): void {
  code.add(Code.MOV_IMM, R0, 0, 0, allow ? 1 : 0);
  code.add(Code.EXIT, 0);
}

class Assembler {
  readonly #code: { code: number; registers: number; offset: number; immediate: number }[] = [];

  /** Returns the instruction's number, for land(). */
  add(code: number, dst: number, src = 0, offset = 0, immediate = 0): number {
    return this.#code.push({ code, registers: dst | (src << 4), offset, immediate }) - 1;
  }

  /** The jump goes to the next instruction that is added. */
  land(jump: number): void {
    this.#code[jump]!.offset = this.#code.length - jump - 1;
  }

  bytes(): Uint8Array {
    const bytes = Buffer.alloc(this.#code.length * INSTRUCTION);
    this.#code.forEach(({ code, registers, offset, immediate }, index) => {
      const at = index * INSTRUCTION;
      bytes.writeUInt8(code, at);
      bytes.writeUInt8(registers, at + 1);
      bytes.writeInt16LE(offset, at + 2);
      bytes.writeInt32LE(immediate | 0, at + 4);
    });
    return bytes;
  }
}
