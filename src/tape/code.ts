/**
 * A tape's instructions while it grows, as the words that the player reads (format.ts), with holes for what is known only
 * at the end: which number a register gets, where a label lies, where the texts begin.
 */
import { INSTRUCTION_BYTES } from './format.ts';

/** 32-bit words of an instruction. */
export const INSTRUCTION_WORDS = INSTRUCTION_BYTES / 4;

const FIRST_INSTRUCTIONS = 1024;
/** A hole is its byte in the code and the id of what belongs there. */
const HOLE = 2;
/** Arguments and the three fields of the head. */
const MOST_HOLES = 9 * HOLE;

export class Code {
  words: Int32Array<ArrayBuffer>;
  /** Instructions. */
  count = 0;
  /**
   * In the order of the instructions, what an instruction reads before what it writes. The byte says what belongs there: DST of an
   * instruction is a register that is written, TARGET a label (32 bits), any other a register that is read.
   */
  holes: Int32Array<ArrayBuffer>;
  /** Used elements of `holes`. */
  holesEnd = 0;
  /** Words that hold an offset into the texts. */
  texts: Int32Array<ArrayBuffer>;
  textsEnd = 0;

  constructor(instructions = FIRST_INSTRUCTIONS) {
    this.words = new Int32Array(instructions * INSTRUCTION_WORDS);
    this.holes = new Int32Array(instructions * 2 * HOLE);
    this.texts = new Int32Array(instructions);
  }

  /** Makes room for one instruction and returns its first word; all of them are zero. */
  next(): number {
    const at = this.count * INSTRUCTION_WORDS;
    if (at === this.words.length) this.words = larger(this.words);
    if (this.holesEnd + MOST_HOLES > this.holes.length) this.holes = larger(this.holes);
    if (this.textsEnd + MOST_HOLES > this.texts.length) this.texts = larger(this.texts);
    this.count++;
    return at;
  }

  /** @param byte a byte of the code: four times the word, plus `Field` */
  hole(byte: number, id: number): void {
    this.holes[this.holesEnd] = byte;
    this.holes[this.holesEnd + 1] = id;
    this.holesEnd += HOLE;
  }

  text(word: number): void {
    this.texts[this.textsEnd++] = word;
  }

  /** Operation of the last instruction. */
  get lastOp(): number | undefined {
    return this.count === 0 ? undefined : this.words[(this.count - 1) * INSTRUCTION_WORDS]! & 0xff;
  }

  /** Bytes of memory. */
  get size(): number {
    return this.words.byteLength + this.holes.byteLength + this.texts.byteLength;
  }

  clear(): void {
    this.words.fill(0, 0, this.count * INSTRUCTION_WORDS);
    this.count = 0;
    this.holesEnd = 0;
    this.textsEnd = 0;
  }
}

function larger(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(array.length * 2);
  copy.set(array);
  return copy;
}
