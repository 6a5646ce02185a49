/** Reads a tape's bytes back: for the disassembler and for explaining a failure. */
import type { Arch } from '../linux/arch.ts';
import { archOf } from './assemble.ts';
import { Field, HEADER_BYTES, INSTRUCTION_BYTES, MAGIC, MAX_ARGS } from './format.ts';
import { TapeError } from './refs.ts';

export interface ImageArg {
  kind: number;
  value: bigint;
}

export interface ImageInstruction {
  op: number;
  dst: number;
  a: number;
  b: number;
  step: number;
  target: number;
  args: readonly ImageArg[];
}

export interface Image {
  arch: Arch;
  instructions: readonly ImageInstruction[];
  data: Buffer;
  /** Offsets into data of u64s that hold a data offset and become an address. */
  pointers: ReadonlySet<number>;
}

/** Throws TapeError (`invalid-argument`) for bytes that are no tape. The player checks more. */
export function readImage(bytes: Uint8Array): Image {
  const image = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (image.length < HEADER_BYTES || image.toString('latin1', 0, 8) !== MAGIC)
    throw new TapeError('not a tape', 'invalid-argument');
  const header = Array.from({ length: 7 }, (_, index) => image.readUInt32LE(8 + index * 4));
  const [archNumber, count, code, data, dataLength, relocations, relocationCount] = header as Header;
  const arch = archOf(archNumber);
  if (arch === undefined) throw new TapeError(`unknown architecture ${archNumber}`, 'invalid-argument');
  const codeEnd = code + count * INSTRUCTION_BYTES;
  const end = Math.max(codeEnd, data + dataLength, relocations + relocationCount * 4);
  if (end > image.length) throw new TapeError(`cut off: ${image.length} of ${end} bytes`, 'invalid-argument');
  return {
    arch,
    instructions: Array.from({ length: count }, (_, index) =>
      readInstruction(image, code + index * INSTRUCTION_BYTES),
    ),
    data: image.subarray(data, data + dataLength),
    pointers: new Set(
      Array.from({ length: relocationCount }, (_, index) => image.readUInt32LE(relocations + index * 4)),
    ),
  };
}

type Header = [number, number, number, number, number, number, number];

function readInstruction(image: Buffer, at: number): ImageInstruction {
  const kinds = image.readUInt16LE(at + Field.KINDS);
  const nargs = Math.min(image.readUInt16LE(at + Field.NARGS), MAX_ARGS);
  return {
    op: image[at + Field.OP]!,
    dst: image[at + Field.DST]!,
    a: image[at + Field.A]!,
    b: image[at + Field.B]!,
    step: image.readUInt32LE(at + Field.STEP),
    target: image.readUInt32LE(at + Field.TARGET),
    args: Array.from({ length: nargs }, (_, index) => ({
      kind: (kinds >> (2 * index)) & 3,
      value: image.readBigUInt64LE(at + Field.ARGS + index * 8),
    })),
  };
}
