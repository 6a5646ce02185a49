/**
 * state.json: what changes in a container's life, one line of JSON padded with blanks, and behind it what stays as it is and may be long (what
 * an exec needs of config.json), whose place the line tells. Overwritten in place. The run folder is a tmpfs of our own, so these small
 * writes are made in place; they never touch a container's files.
 *
 * The kernel copies a write page by page and looks between them whether the writer was killed: the death of wherryd cannot fall into the middle
 * of a line that fits into one page, so a later reader finds the old or the new one without the price of a rename.
 */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { boundary } from '../fault.ts';
import { writeWhole } from '../linux/write-whole.ts';

const { O_WRONLY, O_CREAT } = constants;
/** What a tmpfs gives at a time. */
const PAGE = 4096;
/** Bytes that the line may grow by without asking for room. */
const SPARE = 512;
const NEWLINE = 0x0a;

/** What lies where in the file, in bytes from its start. */
export interface StatePlace {
  /** The line has so much: what stays begins there. */
  room: number;
  end: number;
  /** What stays; '' : nothing yet. */
  lasting: string;
}

export const nothingWritten: StatePlace = { room: 0, end: 0, lasting: '' };

/** As the line tells it. */
interface Lasting {
  at: number;
  length: number;
}

/**
 * Throws what open(2) and write(2) throw, and ENOSPC where only a part found room: then the file says what it said before.
 * @param line gives the state with the place of what stays
 * @param step is what boundaries are called
 */
export function writeState(
  path: string,
  line: (lasting: Lasting | undefined) => object,
  lasting: string,
  before: StatePlace,
  step: string,
): StatePlace {
  const tail = Buffer.from(lasting);
  const text = (at: number): Buffer =>
    Buffer.from(`${JSON.stringify(line(tail.length === 0 ? undefined : { at, length: tail.length }))}\n`);
  let head = text(before.room);
  let { room } = before;
  const fits = head.length <= room && (lasting === before.lasting || room === before.end);
  if (!fits) {
    // Behind all that the old line names, until there is a new one.
    room = Math.ceil(Math.max(head.length + SPARE, tail.length === 0 ? 0 : before.end) / PAGE) * PAGE;
    head = text(room);
  }
  boundary('state', step);
  const file = openSync(path, O_WRONLY | O_CREAT, 0o600);
  boundary('state opened', step);
  try {
    let { end } = before;
    const moved = tail.length > 0 && (room !== before.room || lasting !== before.lasting);
    const wanted = moved ? room + tail.length : Math.max(room, end);
    if (wanted > end && (moved || end > 0)) {
      const more = Buffer.alloc(wanted - end, ' ');
      if (moved) tail.copy(more, room - end);
      writeWhole(file, more, end, end);
      end = wanted;
      boundary('state grown');
    }
    const padded = Buffer.alloc(room, ' ');
    head.copy(padded);
    writeWhole(file, padded, 0, end);
    boundary('state written', step);
    return { room, end: Math.max(end, room), lasting };
  } finally {
    closeSync(file);
  }
}

/** The line's value and what stays. Throws what readFileSync and JSON.parse throw. */
export function readState(path: string): { state: { lasting?: Lasting }; place: StatePlace } {
  const bytes = readFileSync(path);
  const newline = bytes.indexOf(NEWLINE);
  const line = bytes.toString('utf8', 0, newline < 0 ? bytes.length : newline);
  const state = JSON.parse(line) as { lasting?: Lasting };
  const { at, length } = state.lasting ?? { at: bytes.length, length: 0 };
  const lasting = bytes.toString('utf8', at, at + length);
  return { state, place: { room: at, end: bytes.length, lasting } };
}
