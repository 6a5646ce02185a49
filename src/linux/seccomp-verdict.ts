/**
 * What a filter answers to a system call, without asking the kernel: the set-up of a container that still makes calls
 * after it loaded its filter can be checked beforehand, and the answer names the call that is in the way.
 */
import { WherryError } from '../errors.ts';
import type { Arch } from './arch.ts';
import { INSTRUCTION_SIZE } from './seccomp-stub.ts';

/** SECCOMP_RET_ACTION_FULL of linux/seccomp.h. */
const ACTION_MASK = 0xffff_0000;

const actions: ReadonlyMap<number, Verdict['action']> = new Map([
  [0x8000_0000, 'kill-process'],
  [0x0000_0000, 'kill-thread'],
  [0x0003_0000, 'trap'],
  [0x0005_0000, 'errno'],
  [0x7fc0_0000, 'notify'],
  [0x7ff0_0000, 'trace'],
  [0x7ffc_0000, 'log'],
  [0x7fff_0000, 'allow'],
]);

export interface Verdict {
  action: 'kill-process' | 'kill-thread' | 'trap' | 'errno' | 'notify' | 'trace' | 'log' | 'allow';
  /** The errno of `errno`, else what the filter put there. */
  value: number;
}

/** AUDIT_ARCH_* of linux/audit.h. */
export const auditArchitectures: Readonly<Record<Arch, number>> = {
  x86_64: 0xc000_003e,
  aarch64: 0xc000_00b7,
};

/** struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]. */
function seccompData(audit: number, number: number, args: readonly bigint[]): DataView {
  const data = new DataView(new ArrayBuffer(64));
  data.setInt32(0, number, true);
  data.setUint32(4, audit, true);
  for (const [index, arg] of args.entries()) data.setBigUint64(16 + 8 * index, BigInt.asUintN(64, arg), true);
  return data;
}

/**
 * Runs the classic BPF that libseccomp writes (linux/filter.h) over one call; arguments that are not given are 0.
 * @throws WherryError internal for an instruction that libseccomp does not use
 */
export function seccompVerdict(
  filter: Uint8Array,
  audit: number,
  number: number,
  args: readonly bigint[] = [],
): Verdict {
  const program = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  const data = seccompData(audit, number, args);
  let accumulator = 0;
  for (let at = 0; at + INSTRUCTION_SIZE <= filter.length; at += INSTRUCTION_SIZE) {
    const code = program.getUint16(at, true);
    const value = program.getUint32(at + 4, true);
    const jump = (yes: boolean): void => {
      at += INSTRUCTION_SIZE * program.getUint8(yes ? at + 2 : at + 3);
    };
    switch (code) {
      case 0x20: // BPF_LD | BPF_W | BPF_ABS
        accumulator = data.getUint32(value, true);
        break;
      case 0x54: // BPF_ALU | BPF_AND | BPF_K
        accumulator = (accumulator & value) >>> 0;
        break;
      case 0x05: // BPF_JMP | BPF_JA
        at += INSTRUCTION_SIZE * value;
        break;
      case 0x15: // BPF_JMP | BPF_JEQ | BPF_K
        jump(accumulator === value);
        break;
      case 0x25: // BPF_JMP | BPF_JGT | BPF_K
        jump(accumulator > value);
        break;
      case 0x35: // BPF_JMP | BPF_JGE | BPF_K
        jump(accumulator >= value);
        break;
      case 0x45: // BPF_JMP | BPF_JSET | BPF_K
        jump((accumulator & value) !== 0);
        break;
      case 0x06: // BPF_RET | BPF_K
        // The kernel takes an action that it does not know for killing the process.
        return { action: actions.get((value & ACTION_MASK) >>> 0) ?? 'kill-process', value: value & 0xffff };
      default:
        throw new WherryError('internal', `seccomp filter: instruction ${code.toString(16)} is not known`);
    }
  }
  throw new WherryError('internal', 'seccomp filter: it ends without an answer');
}
