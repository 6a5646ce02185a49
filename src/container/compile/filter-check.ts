/**
 * The tape still makes calls after it has loaded the container's filter. What the filter will answer is known beforehand
 * (src/linux/seccomp-verdict.ts): a profile that would break the set-up is refused by the name of its rule, instead of a process that
 * dies without a word (hazards B19).
 */
import { WherryError } from '../../errors.ts';
import { type Arch, currentArch } from '../../linux/arch.ts';
import { errnoName } from '../../linux/errno.ts';
import { auditArchitectures, seccompVerdict, type Verdict } from '../../linux/seccomp-verdict.ts';
import { type SyscallName, syscallName, syscallNumber } from '../../linux/syscalls.ts';
import type { Spec } from '../../oci/types.ts';
import { type AssembledTape, archOf } from '../../tape/assemble.ts';
import { INSTRUCTION_WORDS } from '../../tape/code.ts';
import { Field, Kind, Op } from '../../tape/format.ts';

/** Words of an instruction before its arguments. */
const ARGS = Field.ARGS >> 2;

const fine = new Set<Verdict['action']>(['allow', 'log']);

/** Verdicts by filter: most containers of a node share one, and make the same few calls after it. */
const known = new WeakMap<Uint8Array, Map<string, Verdict>>();

/** @throws WherryError invalid-argument: the rule, and the call that it forbids */
export function checkFilter(tape: AssembledTape, filter: Uint8Array, spec: Spec): void {
  const image = new Instructions(tape.image);
  const { arch } = image;
  const number = (name: SyscallName): number => syscallNumber(name, arch);
  const load = image.findLastCall(number('seccomp'));
  if (load < 0) return;
  const last = image.findLastCall(number('execve'));
  const verdicts = known.get(filter) ?? new Map<string, Verdict>();
  known.set(filter, verdicts);
  // Until the supervisor has the listener nobody can answer; from then on a notified call only waits for it.
  let handedOver = false;
  for (let pc = load + 1; pc <= last; pc++) {
    if (image.op(pc) !== Op.SYSCALL) continue;
    const call = image.target(pc);
    const key = image.key(pc);
    let verdict = verdicts.get(key);
    if (verdict === undefined) {
      verdict = seccompVerdict(filter, auditArchitectures[arch], call, image.immediates(pc));
      verdicts.set(key, verdict);
    }
    const harmless =
      fine.has(verdict.action) ||
      (verdict.action === 'notify' && handedOver) ||
      (verdict.action === 'errno' && image.handles(pc, verdict.value));
    if (!harmless) {
      const step = tape.steps.find(({ id }) => id === image.step(pc))?.does ?? '';
      throw refusal(spec, syscallName(call, arch) ?? String(call), verdict, step);
    }
    if (call === number('read')) handedOver = true;
  }
}

/**
 * A rule of the profile that names the call, else its default; what else decides (arguments, kernel) is in the verdict. An exec
 * has only the filter of its container left, and names no rule.
 */
function refusal({ linux, process }: Spec, call: string, verdict: Verdict, step: string): WherryError {
  const index = (linux?.seccomp?.syscalls ?? []).findIndex(
    ({ names, action }) => names.includes(call) && action !== 'SCMP_ACT_ALLOW' && action !== 'SCMP_ACT_LOG',
  );
  const fallback = linux?.seccomp === undefined ? 'linux.seccomp' : 'linux.seccomp.defaultAction';
  const path = index < 0 ? fallback : `linux.seccomp.syscalls[${index}].action`;
  const answer =
    verdict.action === 'errno'
      ? `answers ${errnoName(verdict.value) ?? verdict.value} to`
      : verdict.action === 'notify'
        ? 'asks the supervisor about'
        : 'kills at';
  const later = process.noNewPrivileges !== true && verdict.action !== 'notify';
  return new WherryError(
    'invalid-argument',
    `config.json: ${path}: the filter ${answer} ${call}, which the set-up still needs after it has loaded it (${step})`,
    {
      path,
      syscall: call,
      hint: later
        ? `allow ${call}, or set process.noNewPrivileges, which loads the filter later`
        : `allow ${call}`,
    },
  );
}

/** The code of a tape without a copy of it: thousands of instructions, and few of them are looked at. */
class Instructions {
  readonly arch: Arch;
  readonly #words: Int32Array;
  readonly #count: number;
  readonly #code: number;

  constructor(image: Uint8Array) {
    this.#words = new Int32Array(image.buffer, image.byteOffset, image.byteLength >> 2);
    this.arch = archOf(this.#words[2]!) ?? currentArch();
    this.#count = this.#words[3]!;
    this.#code = this.#words[4]! >> 2;
  }

  op(pc: number): number {
    return this.#words[this.#at(pc)]! & 0xff;
  }

  target(pc: number): number {
    return this.#words[this.#at(pc) + (Field.TARGET >> 2)]!;
  }

  step(pc: number): number {
    return this.#words[this.#at(pc) + (Field.STEP >> 2)]!;
  }

  /** Arguments; addresses and registers, which no sensible rule asks for, are 0. */
  immediates(pc: number): bigint[] {
    const at = this.#at(pc);
    const kinds = this.#words[at + (Field.KINDS >> 2)]!;
    return Array.from({ length: kinds >> 16 }, (_, index) => {
      if (((kinds >> (2 * index)) & 3) !== Kind.IMMEDIATE) return 0n;
      const word = at + ARGS + 2 * index;
      return (BigInt(this.#words[word + 1]! >>> 0) << 32n) | BigInt(this.#words[word]! >>> 0);
    });
  }

  /** The same for calls that are the same to a filter. */
  key(pc: number): string {
    const at = this.#at(pc);
    const words = this.#words;
    const kinds = words[at + (Field.KINDS >> 2)]!;
    let key = `${words[at + (Field.TARGET >> 2)]}`;
    for (let index = 0; index < kinds >> 16; index++) {
      const word = at + ARGS + 2 * index;
      if (((kinds >> (2 * index)) & 3) !== Kind.IMMEDIATE) key += ',0,0';
      else key += `,${words[word]},${words[word + 1]}`;
    }
    return key;
  }

  /** The tape goes on when the call fails so. */
  handles(pc: number, errno: number): boolean {
    for (let next = pc + 1; next < this.#count && this.op(next) === Op.ON_ERRNO; next++) {
      const value = this.#words[this.#at(next) + ARGS];
      if (value === 0 || value === errno) return true;
    }
    return false;
  }

  findLastCall(number: number): number {
    for (let pc = this.#count - 1; pc >= 0; pc--) {
      if (this.op(pc) === Op.SYSCALL && this.target(pc) === number) return pc;
    }
    return -1;
  }

  #at(pc: number): number {
    return this.#code + pc * INSTRUCTION_WORDS;
  }
}
