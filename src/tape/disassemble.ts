/**
 * A tape as text, for `wherry explain` and for tests: a line a step, then its instructions. It reads the bytes, so what
 * it shows is what the player will do.
 */
import { errnoName } from '../linux/errno.ts';
import { syscallName } from '../linux/syscalls.ts';
import type { AssembledTape } from './assemble.ts';
import { Kind, Op, SCRATCH } from './format.ts';
import { type FormatContext, formats, operand } from './formats.ts';
import { type Image, type ImageArg, type ImageInstruction, readImage } from './image.ts';
import { number } from './names.ts';

export interface DisassembleOptions {
  /** Show long texts and lists whole. */
  full?: boolean;
}

/** Deterministic; ends with a newline. Throws TapeError for bytes that are no tape. */
export function disassemble(tape: AssembledTape, options: DisassembleOptions = {}): string {
  const image = readImage(tape.image);
  const limit = options.full ? Number.POSITIVE_INFINITY : 12;
  const width = String(image.instructions.length - 1).length + 2;
  const targets = new Set(image.instructions.filter(isJump).map(({ target }) => target));
  const steps = new Map(tape.steps.map((step) => [step.id, step]));
  const labelOf = (target: number) => tape.labels?.get(target) ?? `L${target}`;
  const lines: string[] = [];
  let current = 0;

  for (let pc = 0; pc < image.instructions.length; pc++) {
    const instruction = image.instructions[pc]!;
    if (instruction.step !== current) {
      current = instruction.step;
      const step = steps.get(current);
      const path = step?.path ? `  [${step.path}]` : '';
      lines.push(step === undefined ? `step ${current}` : `${step.does}${path}`);
    }
    if (targets.has(pc)) lines.push(`${' '.repeat(width)} ${labelOf(pc)}:`);
    let text = describe(instruction, image, limit, labelOf);
    const first = pc;
    while (
      instruction.op === Op.SYSCALL &&
      image.instructions[pc + 1]?.op === Op.ON_ERRNO &&
      !targets.has(pc + 1)
    ) {
      const handler = image.instructions[++pc]!;
      text += `${pc === first + 1 ? '   ' : ', '}${handlerText(handler, labelOf)}`;
    }
    lines.push(`${String(first).padStart(width)}  ${text}`);
  }
  return `${lines.join('\n')}\n`;
}

type LabelOf = (target: number) => string;

function isJump({ op }: ImageInstruction): boolean {
  return op === Op.ON_ERRNO || op === Op.JUMP_MASK;
}

function describe(instruction: ImageInstruction, image: Image, limit: number, labelOf: LabelOf): string {
  const { op, dst, a, b, args } = instruction;
  const [first, second] = args.map(operand);
  switch (op) {
    case Op.SYSCALL:
      return syscallText(instruction, { image, args, limit });
    case Op.ON_ERRNO:
      return handlerText(instruction, labelOf);
    case Op.STORE:
      return `store r${a} to ${first} (${b} bytes)`;
    case Op.LOAD:
      return `load ${first} (${b} bytes) -> r${dst}`;
    case Op.JUMP_MASK:
      return `${conditionText(a, args)}goto ${labelOf(instruction.target)}`;
    case Op.DECIMAL:
      return `decimal r${a} to ${first}${result(dst)}`;
    case Op.HALT:
      return `halt ${first}`;
    case Op.LANE:
      return `lane ${first}`;
    case Op.FAIL:
      return `fail ${errnoName(Number(args[0]?.value ?? 0n)) ?? first}`;
    case Op.SET:
      return `set ${first}${result(dst)}`;
    default:
      return `unknown instruction ${op} (${[first, second].filter((text) => text !== undefined).join(', ')})`;
  }
}

function syscallText({ target, dst, args }: ImageInstruction, context: FormatContext): string {
  const name = syscallName(target, context.image.arch);
  const known = name === undefined ? undefined : formats[name];
  const shown = args.map((arg, index) => (known?.[index] ?? operand)(arg, context));
  return `${name ?? `syscall_${target}`}(${shown.join(', ')})${result(dst)}`;
}

function result(dst: number): string {
  return dst === SCRATCH ? '' : ` -> r${dst}`;
}

function handlerText({ args, target }: ImageInstruction, labelOf: LabelOf): string {
  const errno = Number(args[0]?.value ?? 0n);
  return `on ${errno === 0 ? 'any error' : (errnoName(errno) ?? errno)} goto ${labelOf(target)}`;
}

function conditionText(register: number, [mask, value]: readonly ImageArg[]): string {
  if (mask === undefined || value === undefined) return 'if ? ';
  const immediate = mask.kind === Kind.IMMEDIATE ? mask.value : undefined;
  if (immediate === 0n && value.kind === Kind.IMMEDIATE && value.value === 0n) return '';
  if (immediate === 0xffff_ffff_ffff_ffffn) return `if r${register} == ${operand(value)} `;
  const bits = immediate === undefined ? operand(mask) : `0x${immediate.toString(16)}`;
  const wanted = value.kind === Kind.IMMEDIATE ? number(value.value) : operand(value);
  return `if (r${register} & ${bits}) == ${wanted} `;
}
