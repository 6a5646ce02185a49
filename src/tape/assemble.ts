/** Turns a draft into the bytes that the player reads (format.ts). */
import { type Arch, arches } from '../linux/arch.ts';
import { INSTRUCTION_WORDS } from './code.ts';
import type { Draft } from './draft.ts';
import { archNumbers, HEADER_BYTES, INSTRUCTION_BYTES, MAGIC, MAX_ALIGN, MAX_IMAGE } from './format.ts';
import { type Label, TapeError } from './refs.ts';
import { fillHoles } from './registers.ts';

/** A stretch of instructions with one purpose. */
export interface Step {
  /** As the instructions carry it; the first is 1. 0 means before the first step. */
  id: number;
  /** Field of config.json that asked for it; '' where nobody did. */
  path: string;
  does: string;
}

export interface AssembledTape {
  /** What the player maps after the shared page. */
  image: Uint8Array;
  steps: readonly Step[];
  arch: Arch;
  /** Jump targets with their names, for readers. */
  labels?: readonly Label[];
}

export interface Unassembled {
  arch: Arch;
  draft: Draft;
  steps: readonly Step[];
  labels: readonly Label[];
  /** How many registers the builder gave out. */
  registers: number;
}

const [magicLow, magicHigh] = new Int32Array(new TextEncoder().encode(MAGIC).buffer) as unknown as [
  number,
  number,
];
const CODE_OFFSET = align(HEADER_BYTES);

/** Throws TapeError: a jump to a label that was never placed, too many registers, or more than MAX_IMAGE bytes. */
export function assemble({ arch, draft, steps, labels, registers }: Unassembled): AssembledTape {
  const { code, data } = draft;
  const codeWords = code.count * INSTRUCTION_WORDS;
  const dataOffset = align(CODE_OFFSET + code.count * INSTRUCTION_BYTES);
  const relocationsOffset = align(dataOffset + data.length);
  const total = relocationsOffset + data.pointers * 4;
  if (total > MAX_IMAGE)
    throw new TapeError(`overflow: ${total} bytes, at most ${MAX_IMAGE} are possible`, 'resource-exhausted');

  // Both architectures are little endian. The last three bytes of data are in no word, and hold no number.
  const buffer = new ArrayBuffer(total);
  const image = new Uint8Array(buffer);
  const words = new Int32Array(buffer, 0, total >> 2);
  words[0] = magicLow;
  words[1] = magicHigh;
  words[2] = archNumbers[arch];
  words[3] = code.count;
  words[4] = CODE_OFFSET;
  words[5] = dataOffset;
  words[6] = data.length;
  words[7] = relocationsOffset;
  words[8] = data.pointers;

  words.set(code.words.subarray(0, codeWords), CODE_OFFSET >> 2);
  data.copyTo(image, dataOffset, words, relocationsOffset);
  const instructions = new Int32Array(buffer, CODE_OFFSET, codeWords);
  const { texts, textsEnd } = code;
  const { textsBase } = data;
  for (let index = 0; index < textsEnd; index++) {
    const word = texts[index]!;
    instructions[word] = instructions[word]! + textsBase;
  }
  fillHoles(draft, registers, labels, instructions, new Uint8Array(buffer, CODE_OFFSET, codeWords * 4));
  return { image, steps, arch, labels };
}

function align(offset: number): number {
  return (offset + MAX_ALIGN - 1) & -MAX_ALIGN;
}

/** The architecture of a header's number. */
export function archOf(number: number): Arch | undefined {
  return arches.find((arch) => archNumbers[arch] === number);
}
