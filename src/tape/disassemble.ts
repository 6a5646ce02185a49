/**
 * A tape as text, for `wherry explain` and for tests: a line a step, then its instructions. It reads the bytes, so what
 * it shows is what the player will do.
 */
import { errnoName } from '../linux/errno.ts';
import { syscallName } from '../linux/syscalls.ts';
import type { AssembledTape, Step } from './assemble.ts';
import { Kind, Op, SCRATCH } from './format.ts';
import { type FormatContext, formats, operand, textOrOperand } from './formats.ts';
import { type Image, type ImageArg, type ImageInstruction, readImage } from './image.ts';
import type { Label } from './refs.ts';

export interface DisassembleOptions {
  /** Show long texts and lists whole. */
  full?: boolean;
}

/** Deterministic; ends with a newline. Throws TapeError for bytes that are no tape. */
export function disassemble(tape: AssembledTape, options: DisassembleOptions = {}): string {
  const image = readImage(tape.image);
  const limit = options.full ? Number.POSITIVE_INFINITY : 12;
  const width = String(image.instructions.length - 1).length + 2;
  const lines = readLines(image.instructions);
  const targets = new Set(lines.flatMap(({ jumps }) => jumps));
  const labelOf = uniqueNames(namesOf(tape.labels ?? []), targets);
  const steps = new Map(tape.steps.map((step) => [step.id, step]));
  const text: string[] = [];
  let heading = '';

  for (const { pc, instruction, handlers } of lines) {
    if (instruction.step !== 0) {
      const next = headingOf(steps.get(instruction.step), instruction.step);
      if (next !== heading) text.push(next);
      heading = next;
    }
    if (targets.has(pc)) text.push(`${' '.repeat(width)} ${labelOf(pc)}:`);
    const suffix =
      handlers.length === 0 ? '' : `   ${handlersText(handlers, pc + handlers.length + 1, labelOf)}`;
    text.push(`${String(pc).padStart(width)}  ${describe(instruction, image, limit, labelOf)}${suffix}`);
  }
  return `${text.join('\n')}\n`;
}

/** An instruction with the handlers of its failure, which are instructions of their own. */
interface Line {
  pc: number;
  instruction: ImageInstruction;
  handlers: readonly ImageInstruction[];
  /** Where it may go, other than to the next line. */
  jumps: readonly number[];
}

function readLines(instructions: readonly ImageInstruction[]): Line[] {
  const entered = new Set(instructions.filter(isJump).map(({ target }) => target));
  const lines: Line[] = [];
  for (let pc = 0; pc < instructions.length; ) {
    const instruction = instructions[pc]!;
    let next = pc + 1;
    if (instruction.op === Op.SYSCALL)
      while (instructions[next]?.op === Op.ON_ERRNO && !entered.has(next)) next++;
    const handlers = instructions.slice(pc + 1, next);
    const jumps = [instruction, ...handlers].filter(isJump).map(({ target }) => target);
    lines.push({
      pc,
      instruction,
      handlers,
      jumps: jumps.filter((target) => target !== next || !handlers.length),
    });
    pc = next;
  }
  return lines;
}

type LabelOf = (target: number) => string;

function headingOf(step: Step | undefined, id: number): string {
  if (step === undefined) return `step ${id}`;
  return step.path === '' ? step.does : `${step.does}  [${step.path}]`;
}

/** Names by instruction number; several labels may mark one place. */
function namesOf(labels: readonly Label[]): Map<number, string> {
  const names = new Map<number, string>();
  for (const { name, target } of labels) {
    if (target === undefined) continue;
    const other = names.get(target);
    names.set(target, other === undefined ? name : `${other}, ${name}`);
  }
  return names;
}

/** A name that several places have is told apart by the instruction's number: `make@152`. */
function uniqueNames(labels: ReadonlyMap<number, string>, targets: ReadonlySet<number>): LabelOf {
  const places = new Map<string, number>();
  for (const target of targets) {
    const name = labels.get(target);
    if (name !== undefined) places.set(name, (places.get(name) ?? 0) + 1);
  }
  return (target) => {
    const name = labels.get(target);
    if (name === undefined) return `L${target}`;
    return places.get(name) === 1 ? name : `${name}@${target}`;
  };
}

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
      return handlersText([instruction], -1, labelOf);
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
      return `set ${args[0] === undefined ? '' : textOrOperand(args[0], { image, args, limit })}${result(dst)}`;
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

/** `on ENOENT, ENOTDIR goto absent; ignore EEXIST`: a handler that goes to the next line only ignores. */
function handlersText(handlers: readonly ImageInstruction[], next: number, labelOf: LabelOf): string {
  const groups: { target: number; errnos: string[] }[] = [];
  for (const { args, target } of handlers) {
    const last = groups.at(-1);
    if (last?.target === target) last.errnos.push(errnoOf(args));
    else groups.push({ target, errnos: [errnoOf(args)] });
  }
  return groups
    .map(({ target, errnos }) =>
      target === next ? `ignore ${errnos.join(', ')}` : `on ${errnos.join(', ')} goto ${labelOf(target)}`,
    )
    .join('; ');
}

function errnoOf([errno]: readonly ImageArg[]): string {
  const number = Number(errno?.value ?? 0n);
  return number === 0 ? 'any error' : (errnoName(number) ?? String(number));
}

function conditionText(register: number, [mask, value]: readonly ImageArg[]): string {
  if (mask === undefined || value === undefined) return 'if ? ';
  const immediate = mask.kind === Kind.IMMEDIATE ? mask.value : undefined;
  if (immediate === 0n && value.kind === Kind.IMMEDIATE && value.value === 0n) return '';
  if (immediate === 0xffff_ffff_ffff_ffffn) return `if r${register} == ${operand(value)} `;
  const bits = immediate === undefined ? operand(mask) : `0x${immediate.toString(16)}`;
  const plain = value.kind !== Kind.IMMEDIATE || value.value < 10n;
  const wanted = plain ? operand(value) : `0x${value.value.toString(16)}`;
  return `if (r${register} & ${bits}) == ${wanted} `;
}
